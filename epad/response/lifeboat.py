"""The last checkpoint, with the story of why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epad.checkpoint.bundle import Label, create, verify
from epad.checkpoint.errors import CheckpointError
from epad.checkpoint.source import BytesSource, Source
from epad.config import CheckpointConfig
from epad.database import DatabaseError
from epad.explain import History
from epad.response.step import Operation, Step, StepFailedError
from statemachine.clock import Clock


@dataclass(frozen=True, slots=True)
class Lifeboat:
    """Writes the lifeboat bundle once the children have been stopped by the steps before it."""

    directory: Path
    config: CheckpointConfig
    sources: Callable[[], list[Source]]
    facts: Callable[[], Mapping[str, Any]]
    history: History
    clock: Clock

    async def save(self, step: Step, operation: Operation) -> str:
        """Do a `lifeboat` step. Raises StepFailedError."""
        sentence, facts, now = step.arguments["sentence"], self.facts(), self.clock.utc()
        at = f"{now:%Y-%m-%d %H:%M:%S} UTC"
        transitions, chain = await self._story(at)
        report = render_report(sentence, at, facts, transitions, chain)
        sources = [BytesSource("REPORT.md", report.encode()), *self.sources()]
        label = Label(operation.key, "lifeboat", sentence, now, facts)
        try:
            bundle = await create(
                self.directory, sources, label, deadline_seconds=self.config.deadline_seconds
            )
            verification = await verify(bundle.path, deadline_seconds=self.config.deadline_seconds)
        except CheckpointError as error:
            raise StepFailedError(str(error)) from error
        state = "verified" if verification.ok else f"NOT verified: {'; '.join(verification.faults)}"
        return f"{bundle.path} written, {state}; `epactl lifeboat relaunch` starts clean"

    async def _story(self, at: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The transitions and the chain; a journal that cannot be read costs the story, not the bundle."""
        try:
            return await self.history.transitions(), await self.history.explain(None)
        except DatabaseError as error:
            return [], [{"at": at, "kind": "missing", "id": "journal", "text": f"not readable: {error}"}]


def render_report(
    sentence: str,
    at: str,
    facts: Mapping[str, Any],
    transitions: list[dict[str, Any]],
    chain: list[dict[str, Any]],
) -> str:
    """The story as Markdown: what happened, what was found, what was tried."""
    lines = ["# LIFEBOAT", "", f"Entered at {at}: {sentence}.", "", "## State at that time", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "## Phases", "", "| when | from | to | rule | why |", "|---|---|---|---|---|"]
    lines += [
        f"| {t['at']} | {t['source']} | {t['destination']} | {t['guard']} | {t['sentence']} |"
        for t in transitions
    ]
    lines += ["", "## What was found and what was tried", ""]
    lines += [f"- {link['at']} {link['kind']} ({link['id']}): {link['text']}" for link in chain]
    lines += ["", "Files and their hashes are in MANIFEST.json and SHA256SUMS beside this report.", ""]
    return "\n".join(lines)
