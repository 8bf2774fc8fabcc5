"""The manifest: every input, decision and output of a run, sorted; no times, so that equal runs are equal bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runners import durable
from runners.quantize.checkpoint import file_digest
from runners.quantize.fault import HsaqError

SCHEMA: Final = "hsaq.manifest/1"


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Sorted keys, one value a line, and a digest of the allocation alone for comparing at a glance."""
    bits = {layer: values["bits"] for layer, values in content["layers"].items()}
    whole = {"schema": SCHEMA, **content, "allocation_sha256": _digest(bits)}
    durable.write_text(path, json.dumps(whole, indent=1, sort_keys=True) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Return a manifest of this schema; a folder stands for the manifest in it."""
    file = path / "manifest.json" if path.is_dir() else path
    try:
        content = dict[str, Any](json.loads(file.read_bytes()))
    except (OSError, TypeError, ValueError) as error:
        raise HsaqError(f"{file}: no manifest can be read here ({error})") from error
    if content.get("schema") != SCHEMA:
        raise HsaqError(f"{file}: not a manifest of {SCHEMA}")
    return content


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_digest(path) for path in files}


@dataclass(frozen=True, slots=True)
class Difference:
    """Holds one thing that two manifests disagree on."""

    where: str
    left: Any
    right: Any


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """Leaf by leaf, in the order of their names."""
    return list(_differences("", left, right))


def _differences(where: str, left: Any, right: Any) -> list[Difference]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        names = sorted(left.keys() | right.keys())
        return [
            found
            for name in names
            for found in _differences(f"{where}/{name}", left.get(name), right.get(name))
        ]
    return [] if left == right else [Difference(where, left, right)]


def moved_layers(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """Return the layers whose bits differ, one line each."""
    lines = []
    for layer in sorted(left["layers"].keys() | right["layers"].keys()):
        before, after = (side["layers"].get(layer, {}) for side in (left, right))
        if before.get("bits") != after.get("bits"):
            change = after.get("bytes", 0) - before.get("bytes", 0)
            lines.append(
                f"{layer}: {before.get('bits', '-')} -> {after.get('bits', '-')} bits, {change:+,} bytes"
            )
    return lines
