"""Run the child that serves the Workload API: started with the daemon, and again whenever it ends.

The daemon listens, so a client that comes while there is no child waits for the next one. The child holds the keys, and
the daemon says who asks; neither loads what the other needs.

| event | clients | the keys |
|---|---|---|
| the child dies | their streams end, and they connect anew, as every client of SPIFFE does | are on the disk |
| the daemon dies | the same, until the next daemon listens | are on the disk |
| the file of the keys is lost or torn | get a new bundle with their next SVID | are made anew, and told |
| a subsystem is held | its streams end, and it gets nothing | stay |
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec
from structlog.typing import FilteringBoundLogger

from epad import EpadError
from epad.configuration.identity_schema import IdentityConfig
from epad.identity.attestation import Attested
from epad.identity.metrics import STARTS
from epad.identity.record import IdentityRecord
from epad.identity.settings import FIX, agent_path, missing_packages
from epad.metrics.registry import Metrics
from epad.runtime.own_program import start_own
from epad.runtime.owner_file import write_for_owner
from epad.runtime.side_tasks import Tasks
from runners.egress.channel import Channel
from runners.identity.messages import (
    JWT_SECONDS,
    X509_SECONDS,
    Answer,
    Bundle,
    Cut,
    Fault,
    Issue,
    Issued,
    Keep,
    Known,
    Order,
    Ready,
    Report,
    Rotate,
    Saved,
    Start,
    Validate,
    Who,
    encode,
    read_report,
)
from statemachine.clock import Clock

RESTART_SECONDS: Final = 0.2
"""Between two starts at least; twice as long each time that one has not got ready, up to a limit."""
LONGEST_RESTART_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 10.0
MOST_A_MINUTE: Final = 1_200
"""A subsystem may ask so often: each SVID is put on record."""
_BACKLOG: Final = 256
_END_SECONDS: Final = 1.0

Question = Callable[[int], Issue | Validate | Bundle | Rotate]


class IdentityError(EpadError):
    """The identity child does not answer, or refuses."""


class Attests(Protocol):
    """Says whose a connection is; `epad/identity/attestation.py` does."""

    def attest(self, connection: socket.socket, accepted_at: float) -> Attested:
        """Say whose process is at the other end. Raises OSError for what is no Unix socket."""
        ...


@dataclass(frozen=True, slots=True)
class IdentityContext:
    """Gives the child its parts. `keys` is the file of the authorities, `path` that of the socket for clients.

    SVIDs live for so many seconds. A subsystem may ask `most_a_minute` times.
    """

    config: IdentityConfig
    keys: Path
    path: Path
    attestor: Attests
    record: IdentityRecord
    metrics: Metrics
    clock: Clock
    log: FilteringBoundLogger
    x509_seconds: float = X509_SECONDS
    jwt_seconds: float = JWT_SECONDS
    most_a_minute: int = MOST_A_MINUTE


class IdentityChild:
    """The child, and the questions to it."""

    def __init__(self, context: IdentityContext) -> None:
        self._context = context
        self._listening: socket.socket | None = None
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._side = Tasks(context.log)
        self._ready = asyncio.Event()
        self._asked: dict[str, tuple[int, int]] = {}
        self._fault = "it has not started yet"

    @property
    def pids(self) -> frozenset[int]:
        """Return the child's process, if there is one."""
        return frozenset() if self._process is None else frozenset({self._process.pid})

    @property
    def state(self) -> str:
        """Say in words how the child is."""
        return self._fault or "ready"

    def open(self) -> None:
        """Listen for clients. Raises OSError."""
        if agent_path(self._context.config):
            return
        self._fault = f"{self._context.path} cannot be listened on"
        path = self._context.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o755)
        path.unlink(missing_ok=True)  # of a former life: the daemon's lock says that no other runs
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listening.bind(str(path))
            path.chmod(0o666)  # who comes is told by the kernel, not by the file
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
        self._listening = listening

    async def run(self) -> None:
        """Keep the child going until cancelled."""
        if self._listening is None and not agent_path(self._context.config):
            await asyncio.Event().wait()  # there is no socket, which has been told
        if missing := missing_packages():
            self._fault = f"{', '.join(missing)} not installed: {FIX}"
            self._context.log.error("identity.not_started", error=self._fault)
            await asyncio.Event().wait()
        pause = RESTART_SECONDS
        try:
            while True:
                await self._run_one()
                pause = RESTART_SECONDS if self._ready.is_set() else min(2 * pause, LONGEST_RESTART_SECONDS)
                self._ready.clear()
                await asyncio.sleep(pause)
        finally:
            if self._listening is not None:
                self._listening.close()
            await self._side.cancel()

    async def ask(self, question: Question) -> Answer:
        """Ask the child, once it is ready. Raises IdentityError."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._ready.wait()
                self._send(question(number))
                answer: Answer = await future
        except TimeoutError:
            text = f"the identity child gave no answer within {ANSWER_SECONDS:g} s: {self.state}"
            raise IdentityError(text, "epactl doctor") from None
        finally:
            self._waiting.pop(number, None)
        if answer.error:
            raise IdentityError(answer.error)
        return answer

    def cut(self, subsystem: str) -> None:
        """Have the streams of a subsystem looked at again: it may be held."""
        self._send(Cut(subsystem))

    async def _run_one(self) -> None:
        """Start the child, and hear it until it ends."""
        ours, theirs = Channel.pair()
        ended = asyncio.Event()
        try:
            kept = await asyncio.to_thread(_read, self._context.keys)
            self._process = start_own("runners.identity", descriptor=theirs.fileno())
        except OSError as error:
            ours.close()
            self._fault = f"it cannot be started: {error}"
            self._context.log.error("identity.not_started", error=str(error))
            return
        finally:
            theirs.close()
        self._fault = "it starts"
        self._context.metrics.of(STARTS).inc()
        self._channel = Channel(ours, self._hear, ended.set)
        start = self._start(kept)
        try:
            self._send(start, [] if self._listening is None else [self._listening.fileno()])
            await ended.wait()
            self._fault = "it has ended, and is started again"
            self._context.log.warning("identity.ended", pid=self._process.pid, effect="another is started")
        finally:
            self._channel.close()
            self._channel = None
            await _reap(self._process)
            self._process = None
            for future in self._waiting.values():
                if not future.done():
                    future.set_result(Answer(0, error="the identity child has ended: ask again"))

    def _start(self, kept: str) -> Start:
        context = self._context
        agent = agent_path(context.config)
        return Start(context.config.trust_domain, kept, agent, context.x509_seconds, context.jwt_seconds)

    def _send(self, order: Order, descriptors: Sequence[int] = ()) -> None:
        if self._channel is not None:
            self._channel.send(encode(order), descriptors)

    def _hear(self, message: bytes, descriptors: Sequence[int]) -> None:
        """Take in a report. One that the child never makes ends it."""
        try:
            report = read_report(message)
        except msgspec.MsgspecError as error:
            self._context.log.error(
                "identity.unknown_report", error=str(error)[:200], effect="the child is killed"
            )
            if self._process is not None:
                self._process.kill()
            report = None
        try:
            self._take(report, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _take(self, report: Report | None, descriptors: Sequence[int]) -> None:
        match report:
            case Ready():
                self._fault = ""
                self._ready.set()
                self._context.log.info("identity.ready", socket=str(self._context.path))
            case Who(number, accepted_at) if descriptors:
                self._send(self._known(number, descriptors[0], accepted_at))
            case Keep():
                self._side.start(self._keep(report), "identity keys")
            case Issued():
                self._context.record.issued(report)
            case Answer(number):
                future = self._waiting.get(number)
                if future is not None and not future.done():
                    future.set_result(report)
            case Fault(why):
                self._fault = why
                tell = self._context.log.error if why else self._context.log.info
                tell("identity.fault", error=why or "it is over")
            case _:
                return

    def _known(self, number: int, descriptor: int, accepted_at: float) -> Known:
        """Say whose a connection is. It is milliseconds of /proc at most, and the answer must not be late."""
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            try:
                attested = self._context.attestor.attest(connection, accepted_at)
            except OSError as error:  # no Unix socket; the child passes no other
                attested = Attested(why=f"its process cannot be told: {error}")
        if attested.name and not self._has_room(attested.name):
            why = f"{attested.name} has asked {self._context.most_a_minute} times within a minute"
            attested = Attested(why=why, pid=attested.pid, uid=attested.uid)
        if not attested.name:
            self._context.record.refused(attested)
        return Known(number, attested.name, attested.why, attested.pid)

    def _has_room(self, name: str) -> bool:
        minute = int(self._context.clock.monotonic() // 60)
        before, count = self._asked.get(name, (minute, 0))
        count = count + 1 if before == minute else 1
        self._asked[name] = minute, count
        return count <= self._context.most_a_minute

    async def _keep(self, order: Keep) -> None:
        why = ""
        try:
            await asyncio.to_thread(write_for_owner, self._context.keys, order.authorities.encode())
        except OSError as error:
            why = f"{self._context.keys}: {error.strerror}"
        else:
            self._context.record.rotated(order.why)
        self._send(Saved(order.number, why))


def _read(path: Path) -> str:
    with suppress(FileNotFoundError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return ""


async def _reap(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        await asyncio.to_thread(process.wait, _END_SECONDS)
