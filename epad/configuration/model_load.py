"""Estimate how long a model server takes to load, from the size of the model that its command names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from epad.configuration.schema import Config
from probes.subsystems import SubsystemSnapshot, SubsystemState
from statemachine.clock import Clock

FLOOR_SECONDS = 60.0
BYTES_PER_SECOND = 100_000_000
"""A cold disk of a workstation gives more, a server that quantizes or compiles what it loads takes longer."""

LONGEST_SECONDS = 3_600.0
_WEIGHTS = ("*.safetensors", "*.gguf", "*.bin", "*.pth")
_ONE_FILE = frozenset({".gguf", ".safetensors", ".bin", ".pth", ".llamafile"})
# llama.cpp is named the first part of a model, and finds the others beside it.
_PART = re.compile(r"-\d{5}-of-(\d{5})(\.gguf)$")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})
_MOST_ARGUMENTS = 256
_MOST_FILES = 1_024
_BEGINNING = frozenset({SubsystemState.STARTING, SubsystemState.RECOVERING})


def load_seconds(
    command: Sequence[str], working_directory: str = "", environment: Mapping[str, str] = NO_ENVIRONMENT
) -> float:
    """Return how long a program may take to load the models that its arguments name; 0 if they name none here.

    `environment` is the program's own, beside epad's: Hugging Face's cache may lie elsewhere.
    """
    hub = _hub({**os.environ, **environment})
    size = sum(_size(path) for path in set(_models(command, Path(working_directory or "."), hub)))
    if not size:
        return 0.0
    return min(FLOOR_SECONDS + size // BYTES_PER_SECOND, LONGEST_SECONDS)


def is_loading(name: str, snapshots: Iterable[SubsystemSnapshot], config: Config, clock: Clock) -> bool:
    """Say whether a model server began so short a while ago that it may not take connections yet."""
    snapshot = next((each for each in snapshots if each.name == name), None)
    spec = config.subsystems.get(name)
    if snapshot is None or spec is None:
        return False
    runs_for = clock.monotonic() - snapshot.since
    running = snapshot.state is SubsystemState.RUNNING
    return snapshot.state in _BEGINNING or (running and runs_for < spec.ready_seconds)


def _hub(environment: Mapping[str, str]) -> Path:
    """Return the directory of Hugging Face's downloads."""
    home = environment.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")  # noqa: PTH111  it never raises
    return Path(environment.get("HF_HUB_CACHE") or f"{home}/hub")


def _models(command: Sequence[str], folder: Path, hub: Path) -> Iterator[Path]:
    """Yield the files of the models that a command names: each argument, or the part after its equals sign."""
    for argument in command[1:_MOST_ARGUMENTS]:
        text = argument.partition("=")[2] if argument.startswith("-") else argument
        if not text:
            continue
        path = folder / os.path.expanduser(text)  # noqa: PTH111  pathlib's raises for a user that there is not
        if path.suffix.lower() in _ONE_FILE:
            yield from _parts(path)
        elif "/" in text or text in {".", ".."}:
            yield from _weights(path)
            if _HUB_NAME.fullmatch(text):
                yield from _newest_snapshot(hub / f"models--{text.replace('/', '--')}")


def _parts(path: Path) -> Iterable[Path]:
    part = _PART.search(path.name)
    if part is None:
        return [path]
    return _listed(path.parent, f"{path.name[: part.start()]}-*-of-{part[1]}{part[2]}")


def _newest_snapshot(model: Path) -> Iterator[Path]:
    """The weights of the last version of a model that was downloaded."""
    snapshots = _listed(model / "snapshots", "*")
    if snapshots:
        yield from _weights(max(snapshots, key=_changed))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _weights(folder: Path) -> Iterator[Path]:
    for pattern in _WEIGHTS:
        yield from _listed(folder, pattern)


def _listed(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))[:_MOST_FILES]
    except (OSError, ValueError):
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0
