"""The commands that stay: `top`, `status --watch`, `status --wait`."""

from __future__ import annotations

import os
import re
import sys
import time

from epad.api.client import NotRunningError, UnreachableError
from epad.epactl import render
from epad.epactl.call import EXIT_OK, Call, UsageError
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Self

EXIT_TIMEOUT = 12
POLL_SECONDS = 0.5
SHOWN_EVENTS = 50
SMALLEST = (80, 24)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# The screen of its own that less and vim use: what was on the terminal before comes back.
_ENTER, _LEAVE, _HOME, _CLEAR_LINE, _CLEAR_BELOW = (
    "\x1b[?1049h\x1b[?25l",
    "\x1b[?25h\x1b[?1049l",
    "\x1b[H",
    "\x1b[K",
    "\x1b[J",
)


def top(call: Call) -> int:
    """`epactl top [--interval SECONDS]`. Without a terminal it shows one screen and ends."""
    from epad.epactl.top import screen  # noqa: PLC0415

    def draw(size: tuple[int, int]) -> list[str]:
        client = call.client
        status = client.get(Operation.STATUS_READ.path)
        query = {"since": str(-SHOWN_EVENTS), "limit": str(SHOWN_EVENTS)}
        events = list(client.lines(Operation.EVENTS_READ.path, query))
        return screen(status, events, size, call.terminal.style)

    return _stay(call, draw)


def watch(call: Call) -> int:
    """`epactl status --watch`."""

    def draw(_: tuple[int, int]) -> list[str]:
        return render.status_lines(call.client.get(Operation.STATUS_READ.path), call.terminal.style)

    return _stay(call, draw)


def wait(call: Call) -> int:
    """`epactl status --wait PHASE [--timeout SECONDS]`."""
    deadline = time.monotonic() + call.arguments.timeout
    while True:
        status = call.client.get(Operation.STATUS_READ.path)
        if status["phase"] == call.arguments.wait:
            call.terminal.show(status, [f"{status['phase']}: {clean(status['sentence'])}"])
            return EXIT_OK
        if time.monotonic() >= deadline:
            call.terminal.say(f"still {status['phase']} after {call.arguments.timeout:g} s")
            return EXIT_TIMEOUT
        time.sleep(POLL_SECONDS)


def _stay(call: Call, draw: Callable[[tuple[int, int]], list[str]]) -> int:
    if call.terminal.as_json:
        raise UsageError(
            "this is a screen; for JSON ask `epactl status -o json`, or `epactl events -f -o json`"
        )
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        call.terminal.lines(draw(SMALLEST))
        return EXIT_OK
    with _Screen() as screen:
        for size in screen.sizes(call.arguments.interval):
            try:
                lines = draw(size)
            except (NotRunningError, UnreachableError) as error:
                lines = [clean(error), "", "waiting for it; q or Ctrl-C ends this"]
            screen.show(fitted(lines, size))
    return EXIT_OK


def fitted(lines: list[str], size: tuple[int, int]) -> list[str]:
    """Return the lines that a screen has room for; if some do not fit, the last line counts them.

    A line longer than the screen is wide is folded by the terminal, and takes as many rows.
    """
    columns, rows = size
    taken = [max(1, -(-len(_COLOURS.sub("", line)) // max(1, columns))) for line in lines]
    if sum(taken) <= rows:
        return lines
    room, kept = rows - 1, 0
    while kept < len(lines) and taken[kept] <= room:
        room -= taken[kept]
        kept += 1
    return [*lines[:kept], f"q ends it; {len(lines) - kept} lines do not fit"[:columns]]


class _Screen:
    """A terminal of which every key is read at once, given back as it was, whatever happens."""

    def __enter__(self) -> Self:
        import termios  # noqa: PLC0415
        import tty  # noqa: PLC0415

        self._keys = sys.stdin.fileno()
        self._former: Any = termios.tcgetattr(self._keys)
        tty.setcbreak(self._keys)
        _write(_ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        import termios  # noqa: PLC0415

        termios.tcsetattr(self._keys, termios.TCSADRAIN, self._former)
        _write(_LEAVE)

    def sizes(self, interval: float) -> Iterator[tuple[int, int]]:
        """Yield the terminal's size, again and again, until q is pressed."""
        import select  # noqa: PLC0415

        while True:
            columns, rows = os.get_terminal_size()
            yield columns, rows
            ready, _, _ = select.select([self._keys], [], [], interval)
            if ready and os.read(self._keys, 16)[:1] in {b"q", b"Q", b"\x04", b""}:
                return

    def show(self, lines: list[str]) -> None:
        """Write lines over the former ones, so that nothing flickers."""
        _write(_HOME + "\n".join(line + _CLEAR_LINE for line in lines) + _CLEAR_BELOW)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
