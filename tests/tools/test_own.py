"""Tools that no worker does: the same ends as a worker's, and a fault of epad's own is recorded as a failure."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from epad.gate.tiers import Tier
from epad.ledger.record import ToolOutcome
from epad.tools import own
from epad.tools.answers import End
from epad.tools.own import OwnCall, OwnTool, OwnToolError
from epad.tools.protocol import Definition
from epad.tools.running import Running
from epad.tools.sessions import Session


class Answer(msgspec.Struct, frozen=True):
    """A result."""

    number: int


async def ended(tool: OwnTool, running: Running | None = None, timeout: float = 30) -> End:
    definition = Definition("epa_status", "epa", "", "P", timeout, {}, {}, "")
    call = OwnCall(Session("s", "chat", Tier.READER), "t", {"n": 1})
    return await own.answer(tool, call, definition, running or Running(), structlog.get_logger())


async def hang(_: OwnCall) -> Answer:
    await asyncio.Event().wait()
    return Answer(0)


async def test_an_answer_is_a_result() -> None:
    """The struct becomes the content."""

    async def tool(_: OwnCall) -> Answer:
        return Answer(7)

    end = await ended(tool)
    assert (end.outcome, end.content) == (ToolOutcome.DONE, {"number": 7})


async def test_a_wrong_argument_is_named() -> None:
    """As a worker does it."""

    class Args(msgspec.Struct, forbid_unknown_fields=True):
        number: int = 0

    async def tool(call: OwnCall) -> Answer:
        return Answer(call.checked(Args).number)

    end = await ended(tool)
    assert end.outcome is ToolOutcome.FAILED
    assert "`n`" in str(end.content["error"])
    assert end.content["hint"] == "the arguments are: number"


async def test_a_failure_has_its_hint() -> None:
    """An OwnToolError is no fault."""

    async def tool(_: OwnCall) -> Answer:
        raise OwnToolError("no memory 'x'", "memory_list names those there are")

    end = await ended(tool)
    assert end.content == {"error": "no memory 'x'", "hint": "memory_list names those there are"}


async def test_a_fault_is_an_end_as_well() -> None:
    """Otherwise the call would have an opening without an end."""

    async def tool(_: OwnCall) -> Answer:
        raise RuntimeError("a bug")

    end = await ended(tool)
    assert end.outcome is ToolOutcome.FAILED
    assert "a bug" in str(end.content["error"])


async def test_its_time_ends_it() -> None:
    """The task is cancelled."""
    end = await ended(hang, timeout=0.01)
    assert end.outcome is ToolOutcome.TIMED_OUT


async def test_a_hold_ends_it() -> None:
    """At once, for the reason that was given first; and before it begins."""
    running = Running()
    asyncio.get_running_loop().call_later(0.01, running.stop, ToolOutcome.KILLED, "it is held")
    assert (await ended(hang, running)).outcome is ToolOutcome.KILLED
    assert (await ended(hang, running)).outcome is ToolOutcome.KILLED
