"""Run a subsystem without walls under a recorder for a time, and then as it is configured.

The change is one of the configuration in force and of no file, so a reload in the meantime ends it, and so does a new
daemon. The recording is read by `epactl confine learn`, not here: it may take a minute of a core.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog
from msgspec import structs

from epad import EpadError
from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.schema import Config, SubsystemConfig
from epad.confinement.recording import STRACE
from epad.operations.reload import Reloader

RECORDING: Final = ".epad-recording"
"""The recording's name in the subsystem's own directory, which whoever it runs as may write to."""


class LearningError(EpadError):
    """A subsystem cannot be recorded; the message says why, and names the fix."""


class Recordings(Protocol):
    """Records subsystems; `Learning` does."""

    async def begin(self, name: str, seconds: float, why: str) -> Path:
        """Begin a recording, and return its path. Raises LearningError and a reload's errors."""
        ...

    async def end(self, name: str) -> None:
        """End one. Raises LearningError."""
        ...


@dataclass(slots=True)
class Learning:
    """Begins and ends recordings. `work` names a subsystem's own directory."""

    reloader: Reloader
    work: Callable[[str], Path]
    _begun: dict[str, tuple[SubsystemConfig, asyncio.Task[None]]] = field(default_factory=dict)

    async def begin(self, name: str, seconds: float, why: str) -> Path:
        """Restart a subsystem under the recorder, and end that after a time. Returns the recording's path.

        Raises LearningError, ChangeRefusedError, SupervisorError.
        """
        spec = self.reloader.config.subsystems[name]
        if spec.kind != "process":
            raise LearningError(f"{name} is a {spec.kind}: epad records what it starts itself")
        if spec.user and os.geteuid() == 0:
            raise LearningError(
                f"{name} is run as {spec.user}, to whom epad's own directory, where a recorder writes, is closed; "
                "record it under a daemon of that user"
            )
        if name in self._begun:
            raise LearningError(f"{name} is recorded already")
        if shutil.which(STRACE[0]) is None:
            raise LearningError("strace is not installed; install it, as with `apt install strace`")
        file = self.work(name) / RECORDING
        await asyncio.to_thread(file.unlink, missing_ok=True)
        await self.reloader.adopt(lambda config: _with(config, name, recorded(spec, file)), why)
        end = asyncio.create_task(self._end_after(name, seconds), name=f"recording {name}")
        self._begun[name] = spec, end
        return file

    async def end(self, name: str) -> None:
        """End a recording now. Raises LearningError if there is none."""
        if name not in self._begun:
            raise LearningError(f"{name} is not recorded")
        spec, task = self._begun.pop(name)
        task.cancel()
        await self._restore(name, spec)

    async def _end_after(self, name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        spec, _ = self._begun.pop(name)
        await self._restore(name, spec)

    async def _restore(self, name: str, spec: SubsystemConfig) -> None:
        """Start a subsystem as it was, unless a reload has done so, or has taken it away."""
        present = self.reloader.config.subsystems.get(name)
        if present is None or present.command[: len(STRACE)] != STRACE:
            return
        try:
            await self.reloader.adopt(lambda config: _with(config, name, spec), "the recording is over")
        except EpadError as error:
            structlog.get_logger("epad.confinement").error(
                "recording.not_ended", subsystem=name, error=str(error)
            )


def recorded(spec: SubsystemConfig, file: Path) -> SubsystemConfig:
    """Return a subsystem with its program under the recorder, and without walls."""
    command = (*STRACE, "-o", str(file), "--", *spec.command)
    return structs.replace(spec, command=command, confine=ConfineConfig(profile="open"))


def _with(config: Config, name: str, spec: SubsystemConfig) -> Config:
    return structs.replace(config, subsystems={**config.subsystems, name: spec})
