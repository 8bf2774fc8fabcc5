"""Define the seam between a subsystem and its processes: every engine's operations, and nothing about the reasons."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from epad.confinement.user import User
from epad.supervisor.identity import ProcessIdentity
from epad.supervisor.process_tree import Tree
from runners.cell.plan import CellPlan

UNKNOWN_STATUS: Final = "unknown"

SLICE: Final = "epad.slice"
"""Where systemd keeps the units of children."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Describes a process to start. `marks` are the variables of its environment that identify its owner.

    `log_file` is a file that its output is appended to, or the log pump's named pipe.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log_file: Path
    marks: Mapping[str, str]
    cut_off: bool = False
    """From every network but loopback, where the engine can."""
    memory_max_bytes: int = 0
    memory_high_bytes: int = 0
    """Limits for the kernel to hold, where the engine has a control group with a memory controller; 0: none."""
    cell: CellPlan | None = None
    """The walls around it; None: it is not confined."""
    user: User | None = None
    """Whom it runs as; None: as the daemon does."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """Says how a process ended. `succeeded` is None if its status went to another process."""

    text: str
    succeeded: bool | None
    code: int | None = None

    def counts_as_success(self, success_exit_codes: Collection[int]) -> bool | None:
        """Tell if this is a success where these exit codes are; None if it is not known."""
        return self.succeeded if self.code is None else self.code in success_exit_codes


UNSEEN = ExitStatus(UNKNOWN_STATUS, None)


def failure(text: str) -> ExitStatus:
    """Return the status of a process that failed in another way than by its exit."""
    return ExitStatus(text, succeeded=False)


@dataclass(slots=True, eq=False)
class Child:
    """A process under supervision, with all that it forks. `descriptor` is its pidfd, below 0 when released."""

    identity: ProcessIdentity
    marks: Mapping[str, str]
    tree: Tree
    exited: asyncio.Future[ExitStatus]
    descriptor: int


class Engine(Protocol):
    """Starts, finds, holds and ends the trees of processes."""

    @property
    def name(self) -> str:
        """Return the word shown in status."""
        ...

    def describe(self) -> str:
        """Describe in one sentence how processes are held here, and the limits of that."""
        ...

    async def prepare(self) -> None:
        """Get ready, once, before anything is started. Raises SupervisorError."""
        ...

    async def close(self) -> None:
        """Close the files that `prepare` has opened; the processes live on."""
        ...

    async def spawn(self, launch: Launch) -> Child:
        """Start a process that outlives us. Raises SpawnError."""
        ...

    async def adopt(self, identity: ProcessIdentity, marks: Mapping[str, str]) -> Child:
        """Take over a process that runs already. Raises ProcessGoneError."""
        ...

    async def last_exit(self, marks: Mapping[str, str], /) -> ExitStatus:
        """Say how the process of these marks ended while nobody looked; UNSEEN where nothing kept it."""
        ...

    async def bearing(self, marks: Mapping[str, str]) -> frozenset[ProcessIdentity]:
        """Find every process that bears these marks, and its descendants."""
        ...

    async def find(self, marks: Mapping[str, str]) -> ProcessIdentity | None:
        """Find the root of a tree that bears these marks; None if there is none."""
        ...

    async def members(self, child: Child) -> frozenset[ProcessIdentity]:
        """Find every living process of a child's tree."""
        ...

    async def freeze(self, child: Child) -> bool:
        """Stop the whole tree from running; False if some of it runs all the same."""
        ...

    async def thaw(self, child: Child) -> None:
        """Let the whole tree run again."""
        ...

    async def stop(self, child: Child, grace_seconds: float) -> frozenset[ProcessIdentity]:
        """End the whole tree, frozen or not, and return the processes that even SIGKILL did not end."""
        ...

    async def clear(self, marks: Mapping[str, str], grace_seconds: float) -> frozenset[ProcessIdentity]:
        """End the processes with these marks, if no root is known; return those that did not end."""
        ...

    async def isolate(self, child: Child, /, *, cut: bool) -> str:
        """Cut the tree off every network but loopback, or join it again; why not, where that cannot be."""
        ...

    def signal(self, child: Child, number: signal.Signals, /) -> None:
        """Send a signal to the program that was started. Raises OSError."""
        ...

    def is_stopped(self, child: Child) -> bool:
        """Say whether it is alive but does not run."""
        ...

    def is_loose(self, child: Child) -> bool:
        """Say whether a part of a frozen tree runs all the same."""
        ...

    def release(self, child: Child) -> None:
        """Forget a child: reap it if it has ended, and leave it alone if not."""
        ...

    def strays(self, kept: Collection[int]) -> frozenset[ProcessIdentity]:
        """Return the orphans that have come to us and bear no subsystem's mark, `kept` apart."""
        ...

    def sweep(self) -> None:
        """Reap the dead orphans of our children."""
        ...


def unkillable(survivors: Collection[ProcessIdentity]) -> str:
    """Say in words that some of a tree outlives SIGKILL."""
    pids = ", ".join(str(identity.pid) for identity in sorted(survivors, key=lambda i: i.pid))
    return f"SIGKILL does not end pid {pids}: stuck in the kernel; nothing is started in its place"
