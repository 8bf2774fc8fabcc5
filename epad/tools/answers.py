"""Word the ends of tools' turns: what the agent reads, and what the ledger keeps. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from epad.gate.tool_table import Decision
from epad.ledger.record import Effect, ToolOutcome
from epad.tools.protocol import ToolAnswer
from epad.tools.running import Running
from epad.tools.worker import WorkerAnswer

MOST_RESULT_BYTES: Final = 256 << 10
"""The worker bounds text to less; JSON's escapes may make it longer."""
MOST_EFFECTS: Final = 64
MOST_EFFECT_BYTES: Final = 16 << 10

_BY_END: Final = {
    "timeout": ToolOutcome.TIMED_OUT,
    "cancelled": ToolOutcome.CANCELLED,
    "killed": ToolOutcome.CUT,
}
CODES: Final = {
    ToolOutcome.DONE: "",
    ToolOutcome.FAILED: "failed",
    ToolOutcome.CUT: "killed",
    ToolOutcome.CANCELLED: "cancelled",
    ToolOutcome.TIMED_OUT: "timeout",
    ToolOutcome.KILLED: "held",
}


class End(Struct, frozen=True):
    """Says how a tool's turn ended: the content for the agent, and the facts for the record."""

    outcome: ToolOutcome
    content: dict[str, object]
    code: str = ""
    effects: tuple[Effect, ...] = ()
    cpu_ms: int = 0
    wall_ms: int = 0
    undo: str = ""
    """The turn by whose name before-images are kept; empty where none are."""
    whole: bytes = b""
    """The whole of a result that was cut, as JSON; empty for one that fits."""
    blocks: tuple[Mapping[str, object], ...] = ()
    """MCP's blocks that go with a result, such as images."""

    @property
    def is_error(self) -> bool:
        """Tell if the tool gave no result."""
        return self.outcome is not ToolOutcome.DONE

    def answer(self, turn: str) -> ToolAnswer:
        """Return the answer to the caller."""
        blocks = self.blocks
        if blocks:
            blocks = ({"type": "text", "text": msgspec.json.encode(self.content).decode()}, *blocks)
        return ToolAnswer(turn, self.is_error, self.content, self.code or CODES[self.outcome], blocks)


def refused(turn: str, why: str, hint: str, code: str) -> ToolAnswer:
    """Return the answer to a call that was not carried out."""
    return ToolAnswer(turn, is_error=True, content=error(why, hint), reason_code=code)


def session_ended() -> ToolAnswer:
    """Return the answer to a call of a process that is no more."""
    return refused("", "the session has ended: its process was started anew", "", "session_ended")


def error(message: str, hint: str) -> dict[str, object]:
    """Return an error in the form that tools have."""
    return {"error": message, "hint": hint}


def failed(message: str, hint: str, code: str, outcome: ToolOutcome = ToolOutcome.FAILED) -> End:
    """Return the end of a turn that no worker has answered."""
    return End(outcome, error(message, hint), code)


def stopped(running: Running) -> End:
    """Return the end of a turn that was stopped before a worker had it."""
    outcome = running.stopped or ToolOutcome.CANCELLED
    return End(outcome, error(f"it was ended before it began: {running.why}", ""))


def end_of(answer: WorkerAnswer, running: Running) -> End:
    """Return the end that a worker's answer makes; a result that came before the stop took effect stays one."""
    effects = _effects(answer.effects)
    cpu_ms, wall_ms = round(answer.cpu_ms), round(answer.wall_ms)
    if answer.result is None:
        outcome = _BY_END.get(answer.ended, ToolOutcome.FAILED)
        if running.stopped is not None and outcome is ToolOutcome.CANCELLED:
            outcome = running.stopped
        why = f"{answer.error}: {running.why}" if outcome is ToolOutcome.KILLED else answer.error
        return End(outcome, error(why, answer.hint), "", effects, cpu_ms, wall_ms)
    size = len(msgspec.json.encode(answer.result))
    if size > MOST_RESULT_BYTES:
        content = error(
            f"the result has {size} bytes, more than {MOST_RESULT_BYTES}", "ask for less: a limit, or a part"
        )
        return End(ToolOutcome.CUT, content, "output_too_large", effects, cpu_ms, wall_ms)
    whole = bytes(answer.whole)
    return End(ToolOutcome.DONE, answer.result, "", effects, cpu_ms, wall_ms, whole=whole)


def refusal_code(decision: Decision) -> str:
    """Return the code of a refusal by the gate."""
    if decision.needs_consent:
        return "consent_needed"
    first, _, second = decision.row.partition("/")
    if first == "hold":
        return "throttled" if second == "throttle" else "held"
    if second == "tier":
        return "tier_too_low"
    return "tool_not_given" if first == "profile" else "phase"


HINTS: Final = {
    "consent_needed": "a person approves it: `epactl approvals` lists the question; call again once it is approved",
    "throttled": "call again later",
    "held": "the tool stays listed; call it again once the hold has ended",
    "tier_too_low": "a person sets the tier in [subsystems.NAME] tier, for the next start",
    "tool_not_given": "a person sets the tools in [subsystems.NAME] tools",
    "phase": "call it again once the phase has passed",
}


def _effects(told: Sequence[tuple[str, str | None, str | None]]) -> tuple[Effect, ...]:
    """Return a worker's effects as the record has them: so many, and of so many bytes, and then their number."""
    effects: list[Effect] = []
    size = 0
    for number, (target, before, after) in enumerate(told):
        size += len(target.encode(errors="replace"))
        if number >= MOST_EFFECTS or size > MOST_EFFECT_BYTES:
            effects.append(Effect(f"and {len(told) - number} more", None, None))
            break
        effects.append(Effect(target, _digest(before), _digest(after)))
    return tuple(effects)


def _digest(text: str | None) -> bytes | None:
    try:
        return None if text is None else bytes.fromhex(text)
    except ValueError:
        return b""
