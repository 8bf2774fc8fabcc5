"""Be the process of one call: confined, told its arguments, and ended by its answer.

It speaks to the worker through a pipe, in parts of one byte of kind, four of length and the JSON: `e` an effect, told
right after it was made, so that a killed call has told its effects; `w` the whole of a result that was cut; `r` the
result; `x` the error.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

import msgspec

from runners.tools import output, sandbox, undo, undoing
from runners.tools.catalogue import SOCKETS, Tool
from runners.tools.frames import Request
from runners.tools.signature import CONTEXT, Address, CallContext, ToolError

WHOLE: Final = b"w"
CANNOT_BE_UNDONE: Final = "cannot_be_undone"
"""The field of a result that says so; no tool has one of that name."""
PART: Final = struct.Struct(">cI")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Holds the descriptors that a call may use, and if it may run without Landlock."""

    root: int
    undo: int
    pipe: int
    unsandboxed: bool
    way_out: Address | None = None
    browser: str = ""
    is_filtered: bool = True
    """Whether the worker's filter of system calls stands around the call; without, the call puts up its own."""


def run(request: Request, tool: Tool, need: sandbox.Need, around: Surroundings, parent: int) -> NoReturn:
    """Do one call in this freshly forked process, and end it."""
    status = 1
    try:
        os.setpgid(0, 0)
        _become_quiet(around)
        sandbox.die_with_parent(parent)
        sandbox.limit(need)
        if not around.is_filtered:
            sandbox.filter_system_calls(unix_sockets=tool.category in SOCKETS)
        _confine(need, around)
        _send(around.pipe, *_answer(request, tool, around))
        status = 0
    except ToolError as error:
        _send(around.pipe, b"x", msgspec.json.encode(error.as_dict()))
    except BaseException as error:  # a forked child must not go on as the worker
        _send(around.pipe, b"x", msgspec.json.encode(_failure(tool.meta.name, error)))
    finally:
        os._exit(status)


def drive(coroutine: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run a coroutine that never waits, without an event loop: its process has nothing else to do."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("dict[str, Any]", stop.value)
    coroutine.close()
    raise RuntimeError("the tool waits for an event loop, which a call does not have")


def _answer(request: Request, tool: Tool, around: Surroundings) -> tuple[bytes, bytes]:
    def note(path: str, before: str | None, after: str | None) -> None:
        _send(around.pipe, b"e", msgspec.json.encode([path, before, after]))

    CONTEXT.set(
        CallContext(
            root=around.root,
            undo=around.undo,
            call=request.turn,
            way_out=around.way_out,
            browser=around.browser,
            output_bytes=request.output_bytes,
            spill_bytes=request.spill_bytes,
            stays=request.stays,
            note_effect=note,
            note_temporary=undo.note_temporary,
        )
    )
    if request.undo:
        answer: dict[str, Any] = undoing.undo_call(request.undo, request.only)
    else:
        answer = drive(cast("Coroutine[Any, Any, dict[str, Any]]", tool.call(request.arguments)))
        if (lost := CONTEXT.get().kept.lost) and "error" not in answer:
            answer[CANNOT_BE_UNDONE] = (
                f"the store of before-images is full; {len(lost)} path(s) were not kept"
            )
    return _within_bounds(answer, request, around.pipe)


def _within_bounds(answer: dict[str, Any], request: Request, pipe: int) -> tuple[bytes, bytes]:
    """Return the answer's kind and bytes; the whole of one that is cut is told first. Raises ToolError."""
    encoded, limit = msgspec.json.encode(answer), max(request.output_bytes, 4096)
    if len(encoded) > limit:
        if len(encoded) > request.spill_bytes:
            raise ToolError(
                f"the answer has {len(encoded)} bytes, over the limit of {request.output_bytes}",
                "ask for less: a smaller limit, a path, a range",
            )
        _send(pipe, WHOLE, encoded)
        encoded = msgspec.json.encode(output.preview(encoded, limit))
    elif whole := CONTEXT.get().kept.whole:
        _send(pipe, WHOLE, msgspec.json.encode(whole))
    return (b"x" if set(answer) == {"error", "hint"} else b"r"), encoded


def _become_quiet(around: Surroundings) -> None:
    """Leave the worker's own input and output, so that nothing a tool does can write a frame."""
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)
    sandbox.forget_descriptors({0, 1, 2, around.root, around.undo, around.pipe})


def _confine(need: sandbox.Need, around: Surroundings) -> None:
    try:
        sandbox.confine(need)
    except OSError as error:
        if need.risk in sandbox.NEEDS_LANDLOCK and not around.unsandboxed:
            raise ToolError(
                f"Landlock is missing ({error.strerror or error}), and this tool changes files or runs programs",
                "use a kernel with Landlock (5.13 or newer, in the list of `lsm=`), or `[tools] unsandboxed = true`",
            ) from error


def _failure(name: str, error: BaseException) -> dict[str, str]:
    match error:
        case MemoryError():
            return {
                "error": f"{name} needs more memory than a call may have",
                "hint": "give it a smaller input",
            }
        case RecursionError():
            return {"error": f"{name}: the input is nested too deeply", "hint": "give it a flatter input"}
        case _:
            return {
                "error": f"{name} failed: {type(error).__name__}: {error}",
                "hint": "this is a fault of the tool",
            }


def _send(pipe: int, kind: bytes, body: bytes) -> None:
    view = memoryview(PART.pack(kind, len(body)) + body)
    while view:
        view = view[os.write(pipe, view) :]
