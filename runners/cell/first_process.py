"""Run as the first process of a cell: build its tree, give up all rights, start the program, reap, end as it ended.

It is process 1 of its pid namespace, so the kernel ends everything inside with it. It ignores the signals that ask for
an end: the supervisor sends them to each member of a tree, and a program that its parent passed them on to would be
asked twice.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import Final, NoReturn

from runners.cell import file_tree, kernel, landlock, seccomp, tiny_init
from runners.cell.plan import EXIT_NO_CELL, CellPlan, Wall
from runners.cell.report import Report

# Fields 48 to 51 of /proc/PID/stat, counted behind the name: the ends of the arguments, and of the environment.
_BLOCKS: Final = slice(45, 49)
_UNLIMITED: Final = (1 << 64) - 1
_MOST_FILES: Final = 1 << 16
_ENDINGS: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def run(plan: CellPlan, made: frozenset[Wall], report: Report) -> NoReturn:
    """Be the first process of a plan, in namespaces that are made. Never returns."""
    try:
        os.setsid()
        for number in _ENDINGS:
            signal.signal(number, signal.SIG_IGN)
        _show(plan)
        file = tiny_init.open_file()
        own_tree = _wall_in(plan, made, report)
        program = os.fork()
    except BaseException as error:  # this is a forked child: nothing above may run
        report.fail(error)
        os._exit(EXIT_NO_CELL)
    if program == 0:
        _become(plan, report, own_tree=own_tree)
    report.close()
    _let_go(file)
    # Under a root daemon nobody but root looks into it, so that the program cannot either.
    dumpable = plan.user_namespace or plan.uid is None
    tiny_init.become(file, program, name=plan.name, marks=plan.marks, dumpable=dumpable)
    _reap(program)


def _wall_in(plan: CellPlan, made: frozenset[Wall], report: Report) -> bool:
    """Put up the walls that hold this process too, and say whether it has a file tree of its own."""
    own_tree = Wall.FILES in made and report.attempt(Wall.FILES, lambda: _build_tree(plan, made, report))
    if not own_tree and Wall.PROC in plan.walls:
        report.attempt(Wall.PROC, _refuse_proc)
    if Wall.PRIVILEGES in plan.walls:
        report.attempt(Wall.PRIVILEGES, kernel.drop_capabilities)
    if plan.uid is not None and not plan.user_namespace:
        become_user(plan)
    os.chdir(plan.directory)
    if Wall.LIMITS in plan.walls:
        report.attempt(Wall.LIMITS, lambda: _limit(plan))
    if Wall.PRIVILEGES in plan.walls:
        report.attempt(Wall.PRIVILEGES, _give_up_privileges)
    if Wall.SYSCALLS in plan.walls:
        report.attempt(Wall.SYSCALLS, lambda: seccomp.install(plan.syscalls))
    return own_tree


def _build_tree(plan: CellPlan, made: frozenset[Wall], report: Report) -> None:
    def put_proc(place: str) -> None:
        if plan.tree.host_proc:
            file_tree.show_host_proc(place, read_only=True)
            return
        has_own = Wall.PROC in plan.walls and report.attempt(Wall.PROC, lambda: _mount_proc(place, made))
        if not has_own and plan.tree.base == "empty":
            file_tree.show_host_proc(place)

    owner = file_tree.Owner(*_owner(plan))
    report.placed(file_tree.build(plan.tree, owner, put_proc).placeholders)


def _owner(plan: CellPlan) -> tuple[int, int]:
    """Return the uid and gid that the program will have."""
    if plan.uid is None:
        return os.geteuid(), os.getegid()
    return plan.uid, plan.uid if plan.gid is None else plan.gid


def _refuse_proc() -> None:
    raise OSError(1, "it is mounted in a file tree of its own, and there is none")


def _mount_proc(place: str, made: frozenset[Wall]) -> None:
    if Wall.PROCESSES not in made:
        raise OSError(1, "it shows processes of a pid namespace, and there is none")
    file_tree.mount_proc(place)


def _limit(plan: CellPlan) -> None:
    for name, value in plan.limits:
        kind = getattr(resource, f"RLIMIT_{name}")
        _, most = resource.getrlimit(kind)
        held = value if most == resource.RLIM_INFINITY else min(value, most)
        held = resource.RLIM_INFINITY if held >= _UNLIMITED else held
        resource.setrlimit(kind, (held, held))


def _give_up_privileges() -> None:
    kernel.clear_capabilities()
    kernel.no_new_privileges()


def become_user(plan: CellPlan) -> None:
    """Become the plan's user, for good. Raises OSError."""
    uid, gid = _owner(plan)
    os.setgroups(plan.groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _become(plan: CellPlan, report: Report, *, own_tree: bool) -> NoReturn:
    """Turn into the program, within the walls that hold it alone."""
    try:
        landlock.confine(plan, report.attempt, own_tree=own_tree)
        for number in (*_ENDINGS, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(plan.command[0], plan.command, dict(plan.environment))  # noqa: S606
    except BaseException as error:
        report.fail(error)
        os._exit(EXIT_NO_CELL)


def _let_go(kept: int) -> None:
    """Keep no file of the program's, whose output ends when it ends."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.closerange(3, kept)
    os.closerange(kept + 1, _MOST_FILES)


def _reap(program: int) -> NoReturn:
    """Reap whatever ends inside, and end as the program did: by its status, or 128 and its signal.

    For the machine that cannot have it done by `tiny_init`.
    """
    while True:
        pid, status = os.wait()
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _show(plan: CellPlan) -> None:
    """Show the plan's name and marks where /proc shows a process's arguments and environment.

    The supervisor finds processes by their marks. Written over the block that the kernel made when the zygote was
    started, which was given room for this; text that does not fit is cut.
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    arguments, arguments_end, environment, environment_end = map(int, fields[_BLOCKS])
    _overwrite(arguments, arguments_end, f"epad-cell: {plan.name}".encode())
    marks = b"\0".join(os.fsencode(f"{name}={value}") for name, value in plan.marks.items())
    _overwrite(environment, environment_end, marks)
    kernel.prctl(kernel.PR_SET_NAME, ctypes.c_char_p(b"epad-cell"))


def _overwrite(start: int, end: int, text: bytes) -> None:
    room = end - start
    if room > 0:
        ctypes.memset(start, 0, room)
        ctypes.memmove(start, text, min(len(text), room - 1))
