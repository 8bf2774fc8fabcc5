"""systemd's own interface, as far as a supervisor needs it: units started, looked at, changed and ended over D-Bus."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from dbus_fast import BusType, DBusFastError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from epad.supervisor.errors import SupervisorError
from epad.supervisor.systemd_bus import Bus

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = f"{_NAME}.Manager"
_PLAIN = frozenset(string.ascii_letters + string.digits)
NO_SUCH_UNIT = f"{_NAME}.NoSuchUnit"
# systemd answers in milliseconds, and starts what takes long in jobs; a bus that does not answer is broken.
CALL_SECONDS = 10.0
# The longest that a unit with systemd's own limits takes to stop: 90 s each for ExecStop=, SIGTERM and SIGKILL, and
# some to spare. A job that takes longer goes on without us: its unit is looked at again at the next beat.
JOB_SECONDS = 300.0
_REFUSALS = frozenset(
    {
        "org.freedesktop.DBus.Error.AccessDenied",
        "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    }
)


def _question(member: str, signature: str = "", *body: Any) -> Message:
    return Message(
        destination=_NAME,
        path=_PATH,
        interface=_MANAGER,
        member=member,
        signature=signature,
        body=list(body),
    )


def _match_jobs() -> Message:
    rule = f"type='signal',sender='{_NAME}',interface='{_MANAGER}',member='JobRemoved'"
    return Message(
        destination="org.freedesktop.DBus",
        path="/org/freedesktop/DBus",
        interface="org.freedesktop.DBus",
        member="AddMatch",
        signature="s",
        body=[rule],
    )


class ManagerError(SupervisorError):
    """systemd refused, or did not answer. `kind` is the D-Bus error's name."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def is_refusal(self) -> bool:
        """Tell if polkit has refused us."""
        return self.kind in _REFUSALS


class Manager:
    """A connection to one of systemd's managers, made again when it has been lost."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._connection: MessageBus | None = None
        self._lock = asyncio.Lock()
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._done: dict[str, str] = {}
        self._starting = 0
        self._watching: asyncio.Task[None] | None = None

    async def start_transient(
        self, unit: str, properties: Mapping[str, Variant], files: Sequence[int] = ()
    ) -> str:
        """Start a unit that no file describes; return the job's result. Raises ManagerError.

        Properties of the type "h" are descriptors, by their place in `files`.
        """
        fields = [[name, value] for name, value in properties.items()]
        question = _question("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", fields, [])
        question.unix_fds = list(files)
        return await self._await_job(question, unit)

    async def start(self, unit: str) -> str:
        """Start a unit; return the job's result. Raises ManagerError."""
        return await self._job("StartUnit", "ss", unit, "replace")

    async def stop(self, unit: str) -> str:
        """End a unit and everything in its control group; return the job's result. Raises ManagerError."""
        return await self._job("StopUnit", "ss", unit, "replace")

    async def reset_failed(self, unit: str) -> None:
        """Let a failed unit be forgotten; one that has not failed is let be."""
        with suppress(ManagerError):
            await self._call("ResetFailedUnit", "s", unit)

    async def freeze(self, unit: str) -> None:
        """Stop a unit's processes from running. Raises ManagerError."""
        await self._call("FreezeUnit", "s", unit)

    async def thaw(self, unit: str) -> None:
        """Let a unit's processes run again. Raises ManagerError."""
        await self._call("ThawUnit", "s", unit)

    async def set_properties(self, unit: str, properties: Mapping[str, Variant]) -> None:
        """Change a running unit until it ends. Raises ManagerError."""
        fields = [[name, value] for name, value in properties.items()]
        await self._call("SetUnitProperties", "sba(sv)", unit, True, fields)

    async def properties(self, unit: str) -> dict[str, Any]:
        """Read the properties of a service; empty if systemd has no such unit. Raises ManagerError."""
        found: dict[str, Any] = {}
        for interface in (f"{_NAME}.Unit", f"{_NAME}.Service"):
            reply = await self._send(
                Message(
                    destination=_NAME,
                    path=f"{_PATH}/unit/{escape(unit)}",
                    interface="org.freedesktop.DBus.Properties",
                    member="GetAll",
                    signature="s",
                    body=[interface],
                )
            )
            found.update({name: value.value for name, value in reply[0].items()})
        return found if found.get("LoadState") != "not-found" else {}

    async def job_type(self, unit: str) -> str:
        """Return systemd's present job on a unit, such as "stop" or "restart"; empty if none. Raises ManagerError."""
        number, path = (await self.properties(unit)).get("Job", (0, "/"))
        if not number:
            return ""
        message = _question("Get", "ss", f"{_NAME}.Job", "JobType")
        message.interface, message.path = "org.freedesktop.DBus.Properties", path
        return str((await self._send(message))[0].value)

    async def version(self) -> str:
        """Read systemd's own version, such as "252 (252.38-1)". Raises ManagerError."""
        message = _question("Get", "ss", _MANAGER, "Version")
        message.interface = "org.freedesktop.DBus.Properties"
        return str((await self._send(message))[0].value)

    async def units(self, pattern: str) -> tuple[str, ...]:
        """Name the loaded units that a pattern fits. Raises ManagerError."""
        rows = (await self._call("ListUnitsByPatterns", "asas", [], [pattern]))[0]
        return tuple(str(row[0]) for row in rows)

    async def connect(self) -> None:
        """Connect, unless we are. Raises ManagerError."""
        async with self._lock:
            if self._connection is not None and self._connection.connected:
                return
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    connection = await MessageBus(
                        self.bus.address, BusType.SYSTEM, negotiate_unix_fd=True
                    ).connect()
                    connection.add_message_handler(self._hear)
                    # Job ends are told only to those who have asked for them.
                    for question in (_match_jobs(), _question("Subscribe")):
                        await connection.call(question)
            except (OSError, DBusFastError, EOFError) as error:
                said = f"systemd does not answer at {self.bus.address}: {str(error) or 'no answer'}"
                raise ManagerError(f'{said}; a `kind = "unit"` needs it') from error
            self._connection = connection
            self._watching = asyncio.create_task(self._watch(connection), name=f"watch {self.bus.label}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    async def _watch(self, connection: MessageBus) -> None:
        """Give up waiting for the ends of jobs when the connection is lost: nobody tells of them any more."""
        with suppress(Exception):  # whatever the library says of it
            await connection.wait_for_disconnect()  # type: ignore[no-untyped-call]
        for waiting in self._jobs.values():
            if not waiting.done():
                waiting.set_exception(ManagerError(f"the connection to {self.bus.address} was lost"))

    async def _job(self, member: str, signature: str, *body: Any) -> str:
        return await self._await_job(_question(member, signature, *body), body[0])

    async def _await_job(self, question: Message, unit: str) -> str:
        """Ask for a job and wait for its end, which may be told before the answer to the question is."""
        member = question.member
        await self.connect()
        self._starting += 1
        try:
            job = str((await self._send(question))[0])
        finally:
            self._starting -= 1
        if (result := self._done.pop(job, None)) is not None:
            return result
        future = self._jobs.setdefault(job, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(JOB_SECONDS):
                return await future
        except TimeoutError as error:
            number, ctl = job.rpartition("/")[2], "systemctl" if self.bus.is_system else "systemctl --user"
            raise ManagerError(
                f"{member} {unit}: job {number} has not ended within {JOB_SECONDS:g} s and goes on; "
                f"see `{ctl} list-jobs`, end it with `{ctl} cancel {number}`"
            ) from error
        except ManagerError as error:
            raise ManagerError(f"{member} {unit}: {error}") from error
        finally:
            self._jobs.pop(job, None)

    def _hear(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL or message.member != "JobRemoved":
            return
        _, job, _, result = message.body
        if (waiting := self._jobs.get(job)) is not None:
            if not waiting.done():
                waiting.set_result(result)
        elif self._starting:
            self._done[job] = result
        else:
            self._done.clear()

    async def _answer(self, message: Message) -> Message:
        if self._connection is None:
            raise ManagerError(f"{message.member}: the connection is closed")
        return await self._connection.call(message)

    async def _call(self, member: str, signature: str, *body: Any) -> list[Any]:
        return await self._send(_question(member, signature, *body))

    async def _send(self, message: Message) -> list[Any]:
        await self.connect()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                reply = await self._answer(message)
        except (OSError, DBusFastError, EOFError) as error:
            raise ManagerError(f"{message.member}: {str(error) or 'no answer'}") from error
        if reply.message_type is MessageType.ERROR:
            raise ManagerError(f"{message.member}: {' '.join(map(str, reply.body))}", reply.error_name or "")
        return list(reply.body)


def escape(name: str) -> str:
    """Write a unit's name as a part of an object path (sd_bus_path_encode)."""
    return "".join(
        c if c in _PLAIN and not (i == 0 and c.isdigit()) else "".join(f"_{b:02x}" for b in c.encode())
        for i, c in enumerate(name)
    )
