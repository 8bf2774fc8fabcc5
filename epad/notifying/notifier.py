"""The side task that tells a person: it looks how it stands, and hands messages to the channels.

It looks at memory, beside the control loop, and sends in tasks of its own: a server that is slow or away delays nobody.
The open incident is on the disk, so that a daemon that starts again does not tell of it twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from epad.notifying.channels import Channel
from epad.notifying.incident import Incident, Incidents, Message, View
from epad.notifying.outbox import Outbox
from epad.notifying.questions import QuestionNews
from epad.notifying.quiet import QuietHours
from epad.runtime.timers import sleep_to_beat
from statemachine.clock import Clock

LOOK_SECONDS = 1.0


class Notifier:
    """Looks once a second while it runs. `look` says how it stands, `file` keeps the open incident."""

    def __init__(
        self,
        channels: Sequence[Channel],
        look: Callable[[], View],
        clock: Clock,
        file: Path,
        *,
        quiet: QuietHours | None = None,
        calm_seconds: float = 120.0,
        timeout_seconds: float = 10.0,
    ) -> None:
        quiet = quiet or QuietHours()
        self._look = look
        self._question_news = QuestionNews()
        self._clock = clock
        self._file = file
        self._incidents = Incidents(calm_seconds, _load(file))
        self._kept = self._incidents.incident
        self._outboxes = [Outbox(c, quiet, timeout_seconds, self._delivered) for c in channels]
        self._log = structlog.get_logger("epad.notify")
        self._last_failure = ""

    @property
    def notices(self) -> list[str]:
        """Return the channels that do not work, with the reasons."""
        return [f"notify: {box.channel.name}: {box.notice}" for box in self._outboxes if box.notice]

    async def run(self) -> None:
        """Work until cancelled; nothing that goes wrong here ends it."""
        try:
            while True:
                self.step()
                await self._keep()
                await sleep_to_beat(LOOK_SECONDS)
        finally:
            await asyncio.gather(*(box.close() for box in self._outboxes))

    def step(self) -> None:
        """Look once. Never raises."""
        try:
            utc, monotonic = self._clock.utc().timestamp(), self._clock.monotonic()
            view = self._look()
            message = self._incidents.see(view, utc, monotonic)
            news = self._question_news.see(view.questions, view.phase, utc, monotonic)
            for box in self._outboxes:
                for one in [message, *news] if message is not None else news:
                    box.put(one)
                if self._incidents.incident is not None:
                    box.refresh(self._incidents.incident)
                box.step(utc, monotonic)
        except Exception as error:  # the daemon is worth more than its messages
            if repr(error) != self._last_failure:
                self._log.exception("notify.crashed")
            self._last_failure = repr(error)

    def _delivered(self, message: Message) -> None:
        open_now = self._incidents.incident
        if open_now is not None and open_now.id == message.incident.id:
            self._incidents.told()

    async def _keep(self) -> None:
        """Write down the open incident if a fact has changed that the next run must know."""
        now = self._incidents.incident
        if _same(now, self._kept):
            return
        self._kept = now
        with suppress(OSError):  # then a next run may tell of it twice
            await asyncio.to_thread(_save, self._file, now)


def _same(one: Incident | None, other: Incident | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.id, one.was_told, one.gravity) == (other.id, other.was_told, other.gravity)


def _load(file: Path) -> Incident | None:
    """Return the incident that the previous run announced; one that reached no one is announced anew."""
    try:
        incident = msgspec.json.decode(file.read_bytes(), type=Incident | None)
    except (OSError, msgspec.DecodeError):
        return None
    return incident if incident is not None and incident.was_told else None


def _save(file: Path, incident: Incident | None) -> None:
    new = file.with_name(f"{file.name}.new")
    new.touch(mode=0o600)
    new.write_bytes(msgspec.json.encode(incident))
    new.replace(file)
