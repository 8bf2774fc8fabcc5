"""Label a session by what a tool gives it, and see that its labels count before it has the result.

| a call brings | then, before its caller has the answer |
|---|---|
| a label that the session has not | it is on record, with the turn and its target |
| private content | the session's own way out asks from then on, and connections open there are cut |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from epad.gate.tool_labels import labels_of
from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import BOTH, Taint
from epad.tools.answers import End
from epad.tools.file_labels import FileLabel, FileLabels
from epad.tools.protocol import Definition
from epad.tools.sessions import Origin, Session
from epad.tools.shown import cut, visible
from epad.tools.synced import carried_away
from epad.tools.target import find_host

_MOST_SOURCE: Final = 120
_PLACES: Final = ("path", "source", "repo", "name", "channel", "query")
"""The arguments that name what a tool reads, beside its URL."""


async def _nobody(subsystem: str) -> None:
    del subsystem


@dataclass(frozen=True, slots=True)
class Labelling:
    """Gives calls what labels need.

    `guard` makes the way out of a subsystem obey the labels of its session. `workspace` returns a subsystem's
    directory, empty without one; `synced` the directories that the configuration names as carried elsewhere.
    """

    guard: Callable[[str], Awaitable[None]] = _nobody
    workspace: Callable[[str], str] = lambda _: ""
    synced: Callable[[], Sequence[str]] = field(default=tuple)
    files: FileLabels | None = None

    async def leaves(
        self, session: Session, definition: Definition, risk: ToolRisk, arguments: Mapping[str, object]
    ) -> bool:
        """Tell if what a call is given leaves the machine, where that is asked: of a session with both labels."""
        if definition.leaves or risk is not ToolRisk.CHANGES_WORKSPACE or session.taint & BOTH != BOTH:
            return definition.leaves
        root = self.workspace(session.subsystem)
        return bool(root) and await asyncio.to_thread(carried_away, root, arguments, self.synced())

    async def done(
        self, session: Session, definition: Definition, arguments: Mapping[str, object], turn: str, end: End
    ) -> None:
        """Label a session by the files that a call has read, and the files that it has written by the session."""
        if self.files is None:
            return
        root, tool = self.workspace(session.subsystem), definition.name
        if (found := await self.files.read(root, tool, arguments, end.content)) is not None:
            path, label = found
            name = visible(cut(path, _MOST_SOURCE))
            session.label(label.taint, Origin(f"{tool} of {name}, which turn {label.turn} has written", turn))
        await self.files.written(root, tool, arguments, end.effects, FileLabel(session.taint, turn))

    async def given(self, session: Session, before: Taint) -> None:
        """See that the labels that a session has by now and had not before count, before it is given anything."""
        if Taint.PRIVATE in session.taint & ~before:
            await self.guard(session.subsystem)


def read(
    session: Session, definition: Definition, risk: ToolRisk, arguments: Mapping[str, object], turn: str
) -> None:
    """Label a session by the result of a call."""
    labels = labels_of(risk, definition.category, definition.name, untrusted=definition.untrusted)
    if labels & ~session.taint:
        session.label(labels, Origin(source_of(definition.name, arguments), turn))


def source_of(tool: str, arguments: Mapping[str, object]) -> str:
    """Return a tool and what it has read, in words that a person may be shown."""
    if (host := find_host(arguments.get("url"))) is not None:
        return f"{tool} at {host}"
    texts = [each for name in _PLACES if isinstance(each := arguments.get(name), str)]
    place = next(filter(None, texts), "")
    return f"{tool} of {visible(cut(place, _MOST_SOURCE))}" if place else tool
