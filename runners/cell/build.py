"""Make one cell: the work of a process that the zygote forks for it, and that ends when the program has begun.

    zygote -- fork --> builder: control group, user namespace, namespaces, doors, the socket that sees attempts
    builder -- fork --> first process (process 1 of the cell): file tree, /proc, rights, limits, system calls
    first process -- fork --> program: Landlock, exec

A wall that fails while the plan requires it ends all three, and the reason goes to the daemon. When the builder has
ended, the first process falls to the daemon, which has made itself the parent of orphans.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from runners.cell import direct, first_process, kernel, namespaces, seccomp
from runners.cell.direct_filter import direct_filter
from runners.cell.plan import EXIT_NO_CELL, CellPlan, Door, Wall
from runners.cell.report import Outcome, Report

_CHUNK: Final = 1 << 16


@dataclass(slots=True)
class Opened:
    """Holds what is handed to the daemon: the listeners of doors, and the socket that sees attempts.

    `unwatched` is why there is no such socket; empty if there is one, or none was asked for.
    """

    listeners: list[socket.socket] = field(default_factory=list)
    watch: list[socket.socket] = field(default_factory=list)
    unwatched: str = ""

    @property
    def sockets(self) -> list[socket.socket]:
        return [*self.listeners, *self.watch]

    @property
    def described(self) -> dict[str, object]:
        """Return the part of an answer that tells which socket is which."""
        return {"doors": len(self.listeners), "unwatched": self.unwatched}


def open_inside(doors: Iterable[Door], watched: Sequence[int] | None) -> Opened:
    """Listen and watch in the network that we are in. Raises OSError if a door cannot be had.

    A cell whose attempts cannot be seen is as closed as another, so no start ends for that.
    """
    opened = Opened(namespaces.listen(doors))
    if watched is not None:
        try:
            opened.watch.append(direct.watch(watched))
        except OSError as error:
            opened.unwatched = error.strerror or str(error)
    return opened


def assemble_filters(plan: CellPlan) -> None:
    """Have the filters of a plan ready in memory, for this process and those that it forks."""
    if Wall.SYSCALLS in plan.walls:
        seccomp.prepare(plan.syscalls)
    if plan.watched is not None:
        direct_filter(plan.watched)


def build(
    plan: CellPlan,
    streams: Sequence[int],
    answer: socket.socket,
    begun: Callable[[int], int] = lambda _: 0,
) -> NoReturn:
    """Make the cell of a plan, with these as its standard streams; answer with pid, doors and missing walls.

    `begun` is called with the first process's pid before the answer, and returns our exit status.
    """
    outcome = Outcome()
    opened = Opened()
    pid = 0
    reading, writing = os.pipe()
    report = Report(writing, plan.required)
    try:
        made, opened = _enter(plan, report)
        pid = os.fork()
    except BaseException as error:  # this is a forked child: nothing above may run
        report.fail(error)
        report.close()
    else:
        if pid == 0:
            os.close(reading)
            _take_streams(streams)
            for kept in (answer, *opened.sockets):
                kept.close()
            first_process.run(plan, made, report)
        report.close()
    _read(reading, outcome)
    if outcome.failure and pid:
        os.waitpid(pid, 0)
    status = EXIT_NO_CELL if outcome.failure else begun(pid)
    _answer(answer, outcome, pid, opened)
    os._exit(status)


def _enter(plan: CellPlan, report: Report) -> tuple[frozenset[Wall], Opened]:
    """Go where the cell is to be; return the namespaces that there are, and the sockets made inside."""
    if plan.group:
        _join(plan.group)
    if plan.user_namespace:
        if plan.uid is not None:
            first_process.become_user(plan)
            # The files of a process that has changed its user are root's until this is said again.
            kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        if not _enter_user_namespace(plan, report):
            return frozenset(), Opened()
    made = namespaces.enter(plan.walls, report.attempt)
    return made, open_inside(plan.doors, plan.watched) if Wall.NETWORK in made else Opened()


def _enter_user_namespace(plan: CellPlan, report: Report) -> bool:
    """Enter a user namespace, without which none of the others can be had."""
    try:
        namespaces.enter_user_namespace()
    except OSError as error:
        reason = error.strerror or str(error)
        for wall in namespaces.FLAGS:
            if wall in plan.walls:
                report.attempt(wall, _refuse(reason))
        return False
    return True


def _refuse(reason: str) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(1, f"no user namespace: {reason}")

    return fail


def _join(group: str) -> None:
    """Join a control group, so that nothing which is forked from here is ever outside."""
    with open(group, "w", encoding="utf-8") as file:
        file.write("0")


def _take_streams(streams: Sequence[int]) -> None:
    """Put three descriptors where a program has its input, output and errors."""
    high = [fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, 3) for stream in streams]
    for stream in streams:
        os.close(stream)
    for number, descriptor in enumerate(high):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _read(reading: int, outcome: Outcome) -> None:
    """Read the reports until the program has begun, or all have ended."""
    text = b""
    while chunk := os.read(reading, _CHUNK):
        text += chunk
    for line in text.splitlines():
        outcome.take(line)


def _answer(answer: socket.socket, outcome: Outcome, pid: int, opened: Opened) -> None:
    if outcome.failure:
        send(answer, json.dumps({"failure": outcome.failure}).encode(), [])
        return
    body = {"pid": pid, "missing": outcome.missing, "placeholders": outcome.placeholders, **opened.described}
    send(answer, json.dumps(body).encode(), opened.sockets)


def send(answer: socket.socket, message: bytes, sockets: Sequence[socket.socket]) -> None:
    """Send a message, and sockets with it. Raises OSError if nobody listens any more."""
    descriptors = array.array("i", [each.fileno() for each in sockets])
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else []
    answer.sendmsg([message], rights)
