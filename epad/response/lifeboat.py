"""The steps of LIFEBOAT: the first tier at once, and the whole bundle once the children have been stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from epad.checkpoint.bundle import Bundle, Label, create, verify
from epad.checkpoint.manifest import Part
from epad.checkpoint.source import ReportSource, Source
from epad.configuration.schema import CheckpointConfig
from epad.control_loop.history import History
from epad.control_loop.step import Operation, Step, StepFailedError
from epad.copying.child import ChildError, ask_child
from epad.copying.errors import CheckpointError
from epad.ledger.head import Signer
from epad.lifeboat.ballast import Ballast
from epad.lifeboat.first_tier import FirstTier
from epad.lifeboat.report import Story, render_report
from epad.lifeboat.salvage import Salvaged
from epad.storage.database import DatabaseError
from statemachine.clock import Clock

REPORT = "REPORT.md"
SALVAGE_SECONDS = 30.0
SALVAGE_SUFFIX = ".salvage"
_DATABASE_FILES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Lifeboat:
    """Saves as much as possible, the irreplaceable first."""

    directory: Path
    config: CheckpointConfig
    sources: Callable[[], list[Source]]
    facts: Callable[[], Mapping[str, Any]]
    history: History
    clock: Clock
    first: FirstTier
    ballast: Ballast
    signer: Signer | None = None

    async def save_first(self, step: Step, _: Operation) -> str:
        """Do a `first_tier` step: the file made beforehand. It never fails: the bundle is tried in any case."""
        written = await self.first.write(step.arguments["sentence"])
        return f"{written.sentence}; {await self.make_room()}"

    async def make_room(self) -> str:
        """Give the ballast's room back, for the journal and for the bundle that follow."""
        try:
            released = await asyncio.to_thread(self.ballast.release)
        except OSError as error:
            return f"the ballast could not be removed: {error.strerror or error}"
        return f"{released >> 20} MiB of ballast released" if released else "there was no ballast"

    async def save(self, step: Step, operation: Operation) -> str:
        """Do a `lifeboat` step. Raises StepFailedError."""
        await self.make_room()  # again, for a daemon that died between the two
        now = self.clock.utc()
        story = await self._story(step.arguments["sentence"], f"{now:%Y-%m-%d %H:%M:%S} UTC")
        label = Label(operation.key, "lifeboat", story.sentence, now, story.facts)
        report = ReportSource(REPORT, lambda parts: render_report(_with_outcome(story, parts)).encode())
        try:
            bundle = await create(
                self.directory,
                [*self.sources(), report],
                label,
                deadline_seconds=self.config.deadline_seconds,
                signer=self.signer,
            )
            verification = await verify(bundle.path, deadline_seconds=self.config.deadline_seconds)
        except CheckpointError as error:
            raise StepFailedError(f"{error}; the first tier is in {self.first.path}") from error
        salvaged = await self._salvage(bundle)
        state = "verified" if verification.ok else f"NOT verified: {'; '.join(verification.faults)}"
        return f"{bundle.path} written, {state}{salvaged}; `epactl lifeboat relaunch` starts clean"

    async def _story(self, sentence: str, at: str) -> Story:
        """Return the history that led here; an unreadable journal costs the story, not the bundle."""
        try:
            transitions, chain = await self.history.transitions(), await self.history.explain(None)
        except DatabaseError as error:
            missing = {"at": at, "kind": "missing", "id": "journal", "text": f"not readable: {error}"}
            return Story(sentence, at, self.facts(), chain=[missing])
        return Story(sentence, at, self.facts(), transitions, chain)

    async def _salvage(self, bundle: Bundle) -> str:
        """Copy the bytes of databases that SQLite refuses, beside the bundle: none of it can be vouched for."""
        origins = sorted({part.origin for part in bundle.manifest.lost if part.origin})
        present = [
            Path(origin + suffix)
            for origin in origins
            for suffix in _DATABASE_FILES
            if await asyncio.to_thread(Path(origin + suffix).is_file)
        ]
        if not present:
            return ""
        place = bundle.path.with_name(bundle.path.name + SALVAGE_SUFFIX)
        try:
            await asyncio.to_thread(place.mkdir, mode=0o700, exist_ok=True)
        except OSError as error:
            return f"; nothing could be salvaged: {place}: {error.strerror or error}"
        told = [f"{path.name}: {await _salvage_one(path, place / path.name)}" for path in present]
        return f"; raw copies in {place}: {'; '.join(told)}"


async def _salvage_one(source: Path, copy: Path) -> str:
    try:
        salvaged = await ask_child(
            "epad.lifeboat.salvage",
            str(source),
            str(copy),
            answer=Salvaged,
            deadline_seconds=SALVAGE_SECONDS,
        )
    except ChildError as error:
        return str(error)
    return salvaged.sentence


def _with_outcome(story: Story, parts: Sequence[Part]) -> Story:
    """Add to the story the parts that the bundle got, and those that it lacks."""
    saved = [f"{part.name}: {part.size_bytes} bytes ({part.how})" for part in parts if part.file]
    lost = [f"{part.name or 'part of a directory'}: {part.error}" for part in parts if part.error]
    if any(part.error for part in parts):
        lost.append(
            f"what is left of their bytes, if anything, is in the directory *{SALVAGE_SUFFIX} beside this one"
        )
    return replace(story, saved=saved, lost=[*lost, *story.facts.get("lost", ())])
