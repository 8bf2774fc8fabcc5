"""Jobs of a service manager that answers, and then tells of their ends in time, early, never, or is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

import pytest
from dbus_fast import Message, MessageType
from patience import PATIENCE_SECONDS

from epad.supervisor import systemd_manager
from epad.supervisor.systemd_bus import SYSTEM_BUS
from epad.supervisor.systemd_manager import Manager, ManagerError

JOB = "/org/freedesktop/systemd1/job/42"


class Bus:
    """One connection to such a manager; `tells` is what it says before it answers."""

    made: ClassVar[list[Bus]]
    tells = ""

    def __init__(self, *_: object, negotiate_unix_fd: bool) -> None:
        assert negotiate_unix_fd
        self.connected = True
        self.asked: list[str] = []
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.made.append(self)

    async def connect(self) -> Bus:
        return self

    def add_message_handler(self, handler: Callable[[Message], None]) -> None:
        self.hear = handler

    async def call(self, message: Message) -> Message:
        self.asked.append(message.member or "")
        if message.member == "StopUnit" and self.tells:
            self.end_job(self.tells)
        return Message(message_type=MessageType.METHOD_RETURN, reply_serial=1, signature="o", body=[JOB])

    def end_job(self, result: str) -> None:
        body = [42, JOB, "ollama.service", result]
        self.hear(
            Message(
                message_type=MessageType.SIGNAL,
                path="/",
                interface="org.freedesktop.systemd1.Manager",
                member="JobRemoved",
                signature="uoss",
                body=body,
            )
        )

    async def wait_for_disconnect(self) -> None:
        await self.lost

    def lose(self) -> None:
        self.connected = False
        self.lost.set_exception(EOFError())

    def disconnect(self) -> None:
        self.connected = False
        if not self.lost.done():
            self.lost.set_result(None)


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> type[Bus]:
    class Fresh(Bus):
        made: ClassVar[list[Bus]] = []

    monkeypatch.setattr(systemd_manager, "MessageBus", Fresh)
    return Fresh


async def asked(bus: type[Bus], member: str) -> Bus:
    """The newest connection, once it has been asked for this."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not bus.made or member not in bus.made[-1].asked:
            await asyncio.sleep(0)
    return bus.made[-1]


async def test_a_jobs_end_may_be_told_before_its_answer(bus: type[Bus]) -> None:
    """Or after; its result is returned."""
    one = Manager(SYSTEM_BUS)
    stopping = asyncio.create_task(one.stop("ollama.service"))
    (await asked(bus, "StopUnit")).end_job("done")
    assert await stopping == "done"
    bus.tells = "canceled"
    assert await one.stop("ollama.service") == "canceled"
    one.close()


async def test_who_waits_is_told_of_a_close(bus: type[Bus]) -> None:
    """The daemon goes, and does not wait for a job."""
    one = Manager(SYSTEM_BUS)
    stopping = asyncio.create_task(one.stop("ollama.service"))
    await asked(bus, "StopUnit")
    one.close()
    with pytest.raises(ManagerError, match="was lost"):
        await asyncio.wait_for(stopping, PATIENCE_SECONDS)


async def test_a_job_whose_end_is_never_told_is_not_waited_for_for_ever(
    bus: type[Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the unit, the job and what to do; the next job is waited for as ever."""
    one = Manager(SYSTEM_BUS)
    with monkeypatch.context() as patch:
        patch.setattr(systemd_manager, "JOB_SECONDS", 0.05)
        with pytest.raises(ManagerError, match=r"StopUnit ollama\.service: job 42 .* `systemctl cancel 42`"):
            await one.stop("ollama.service")
    bus.tells = "done"
    assert await one.stop("ollama.service") == "done"
    one.close()


async def test_a_lost_connection_ends_the_wait(bus: type[Bus]) -> None:
    """Nobody tells of the job's end then; the next question connects anew."""
    one = Manager(SYSTEM_BUS)
    starting = asyncio.create_task(one.start("ollama.service"))
    (await asked(bus, "StartUnit")).lose()
    with pytest.raises(ManagerError, match=r"StartUnit ollama\.service: the connection .* was lost"):
        await asyncio.wait_for(starting, PATIENCE_SECONDS)
    bus.tells = "done"
    assert await one.stop("ollama.service") == "done"
    assert len(bus.made) == 2
    one.close()
