"""Wait for orders of cells, and fork a builder for each: a small process that has loaded all that a cell takes.

Started by the daemon before there is a need, so that a start pays for no interpreter. It reads the plan and assembles
the filters itself: in a builder, where each page that this touches is copied first, that takes three times as long.
It speaks over one socket, its standard input, on which each message is one order:

    {"order": "spawn"}   with descriptors: the plan's file, input, output, errors, the socket to answer on
    {"order": "reopen", "doors": [[host, port], ...], "watched": [port, ...] or null}
                         with descriptors: a pidfd, the socket to answer on

The builder answers with the cell. The zygote says `{"ended": status}` when it has reaped the builder, since only then
the first process is the daemon's child; then the answer's socket is closed. When its input ends so does the zygote;
the cells live on.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NoReturn

sys.path.insert(0, __file__.rsplit("/", 3)[0])  # `python -I` does not look beside the program

from runners.cell import reopen
from runners.cell.build import assemble_filters, build
from runners.cell.plan import CellPlan

_MESSAGE_BYTES: Final = 1 << 12
_MOST_DESCRIPTORS: Final = 8


class Zygote:
    """Serves one control socket. `_builders` has each builder's pidfd, its pid and the socket of its answer."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._builders: dict[int, tuple[int, socket.socket]] = {}

    def serve(self) -> None:
        """Serve until the daemon has closed its end."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._builders:
                    self._reap(descriptor)
                elif not self._take_order():
                    return

    def _take_order(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, _MOST_DESCRIPTORS)
        if not message:
            return False
        *given, last = descriptors
        answer = socket.socket(fileno=last)
        work = _prepare(json.loads(message), given, answer)
        pid = os.fork()
        if pid == 0:
            self._carry_out(work, answer)
        for descriptor in given:
            os.close(descriptor)
        builder = os.pidfd_open(pid)
        self._builders[builder] = pid, answer
        self._poll.register(builder, select.POLLIN)
        return True

    def _carry_out(self, work: Callable[[], NoReturn], answer: socket.socket) -> NoReturn:
        """Be the builder: forget the zygote's own files, and do one order."""
        try:
            self._control.close()
            for builder, (_, other) in self._builders.items():
                os.close(builder)
                other.close()
            work()
        except BaseException as error:  # a forked child must not go on as the zygote
            answer.send(json.dumps({"failure": str(error) or repr(error)}).encode())
        os._exit(1)

    def _reap(self, descriptor: int) -> None:
        pid, answer = self._builders.pop(descriptor)
        self._poll.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        with suppress(OSError):  # whoever asked may wait no more
            answer.send(json.dumps({"ended": status}).encode())
        answer.close()


def _prepare(order: dict[str, Any], given: list[int], answer: socket.socket) -> Callable[[], NoReturn]:
    """Return the work of one order's builder; that of an order which cannot be read is to say so."""
    try:
        if order["order"] != "spawn":
            return partial(reopen.reopen, given[0], order, answer)
        plan = CellPlan.from_json(_read_all(given[0]))
        assemble_filters(plan)
        return partial(build, plan, given[1:], answer)
    except (KeyError, TypeError, ValueError, OSError) as error:
        return partial(_fail, error)


def _fail(error: Exception) -> NoReturn:
    raise error


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()


def main() -> None:
    """Serve the socket that is our standard input."""
    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), 0)
    gc.disable()
    gc.freeze()
    Zygote(control).serve()


if __name__ == "__main__":
    main()
