"""Answer the tools that no worker does: those about epad itself, of its stores, and of models.

Such a tool passes the same gate and has the same records as any other. Its types are in `runners/tools/`, in modules
that declare and import nothing else, so that the daemon reads them too.

| a call ends by | then |
|---|---|
| its answer, or an OwnToolError | the end says done, or failed |
| its time, the caller's cancellation, a hold | its task is cancelled; its store has all of it or nothing |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from epad import EpadError
from epad.ledger.record import ToolOutcome
from epad.tools import answers
from epad.tools.answers import End
from epad.tools.protocol import Definition
from epad.tools.running import Running
from epad.tools.sessions import Session
from epad.tools.worker import WorkerAnswer
from runners.tools.signature import ToolError, checked

ArgsT = TypeVar("ArgsT", bound=msgspec.Struct)


class OwnToolError(EpadError):
    """The call cannot be done: the message names the thing and the place, `hint` the fix."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(slots=True)
class Beside:
    """Holds what goes with a result: the whole of it as JSON, where it was cut, and MCP's blocks, such as images."""

    whole: bytes = b""
    blocks: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class OwnCall:
    """Holds one call: the session that calls, the turn in the ledger, the arguments, and the model's turn, if known.

    `effects` takes what the call changes: a target, and the digests before and after in hex, None for nothing there.
    `room` is how many bytes its result may have. `beside` takes what goes with the result.
    """

    session: Session
    turn: str
    arguments: Mapping[str, object]
    parent: str = ""
    effects: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    room: int = 64 << 10
    beside: Beside = field(default_factory=Beside)

    def checked(self, kind: type[ArgsT]) -> ArgsT:
        """Return the arguments as their struct. Raises OwnToolError that names the wrong one."""
        try:
            return checked(kind, self.arguments)
        except ToolError as error:
            raise OwnToolError(error.message, error.hint) from None


OwnTool = Callable[[OwnCall], Awaitable[msgspec.Struct]]
"""Answers one call with the result's struct. Raises OwnToolError."""
OwnTools = Mapping[str, OwnTool]
"""The own tools by their names."""


async def answer(
    tool: OwnTool, call: OwnCall, definition: Definition, running: Running, log: FilteringBoundLogger
) -> End:
    """Have one call answered within its time; return its end, whatever it is: a fault of epad's own is one too."""
    if running.stopped is not None:
        return answers.stopped(running)
    began = asyncio.get_running_loop().time()
    task = asyncio.ensure_future(tool(call))
    running.began_own(task.cancel)
    done, _ = await asyncio.wait({task}, timeout=definition.timeout)
    wall_ms = 1000 * (asyncio.get_running_loop().time() - began)
    if not done:
        task.cancel()
        await asyncio.wait({task})
        why = f"{definition.name} was ended after {definition.timeout:g} s"
        return answers.failed(why, "ask for less", "timeout", ToolOutcome.TIMED_OUT)
    if task.cancelled():
        told = WorkerAnswer(
            None, error=f"{definition.name} was cancelled", ended="cancelled", wall_ms=wall_ms
        )
        return answers.end_of(told, running)
    match task.exception():
        case None:
            result = msgspec.to_builtins(task.result())
            told = WorkerAnswer(
                None,
                result=result,
                wall_ms=wall_ms,
                effects=tuple(call.effects),
                whole=msgspec.Raw(call.beside.whole),
            )
            return replace(answers.end_of(told, running), blocks=call.beside.blocks)
        case OwnToolError() as error:
            return answers.end_of(
                WorkerAnswer(None, error=str(error), hint=error.hint, ended="error", wall_ms=wall_ms), running
            )
        case error:
            log.error("tool.fault", tool=definition.name, turn=call.turn, exc_info=error)
            return answers.failed(f"{definition.name} failed: {error!r}", "this is a fault of epad", "failed")
