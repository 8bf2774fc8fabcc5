"""Queue the unsent messages of one channel: in order, again after a failure, and not in quiet hours."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import structlog

from epad.notifying.channels import Channel, DeliveryError
from epad.notifying.incident import QUESTIONS, Incident, Kind, Message
from epad.notifying.quiet import QuietHours

FIRST_RETRY_SECONDS = 2.0
LONGEST_RETRY_SECONDS = 300.0
GIVE_UP_SECONDS = 6 * 3600.0
"""Counted from the first try: what is older is news to nobody."""
MAX_WAITING = 64


class Outbox:
    """The messages of one channel. `step` never waits and never raises: a message is sent in a task of its own."""

    def __init__(
        self,
        channel: Channel,
        quiet: QuietHours,
        timeout_seconds: float,
        delivered: Callable[[Message], None],
    ) -> None:
        self.channel = channel
        self._quiet = quiet
        self._timeout_seconds = timeout_seconds
        self._delivered = delivered
        self._waiting: deque[Message] = deque(maxlen=MAX_WAITING)
        self._sending: asyncio.Task[str] | None = None
        self._is_final = False
        self._due = 0.0
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._tried_since: float | None = None
        self._log = structlog.get_logger("epad.notify")
        self.notice = ""

    def put(self, message: Message) -> None:
        """Queue a message. The end of an incident whose beginning has not gone out yet takes its place.

        A subsystem's question takes the place of one before that has not gone out, and counts it: a night of questions
        pushes no incident out.
        """
        if message.kind in QUESTIONS:
            self._put_question(message)
            return
        if message.kind is Kind.ENDED:
            first = self._waiting[0] if self._waiting and self._sending is not None else None
            kept = [m for m in self._waiting if m is first or m.incident.id != message.incident.id]
            self._waiting = deque(kept, MAX_WAITING)
        self._waiting.append(message)

    def _put_question(self, message: Message) -> None:
        for place, one in enumerate(self._waiting):
            is_going = place == 0 and self._sending is not None
            if one.kind in QUESTIONS and one.incident.id == message.incident.id and not is_going:
                counted = msgspec.structs.replace(message, more=message.more + one.more + 1)
                self._waiting[place] = counted
                return
        self._waiting.append(message)

    def refresh(self, incident: Incident) -> None:
        """Let a beginning that still waits say how bad it is by now."""
        for place, message in enumerate(self._waiting):
            is_first = place == 0 and self._sending is not None
            if message.kind is Kind.STARTED and message.incident.id == incident.id and not is_first:
                line = incident.line if incident.gravity > message.incident.gravity else message.line
                self._waiting[place] = msgspec.structs.replace(message, incident=incident, line=line)

    def step(self, utc: float, monotonic: float) -> None:
        """Take in the result of a message, and send the next if it is time."""
        if self._sending is not None and self._sending.done():
            self._take(self._sending.result(), monotonic)
        if self._sending is None and self._waiting and monotonic >= self._due and self._may_go(utc):
            self._tried_since = monotonic if self._tried_since is None else self._tried_since
            self._sending = asyncio.create_task(
                self._send(self._waiting[0]), name=f"notify:{self.channel.name}"
            )

    async def close(self) -> None:
        """Drop the unsent messages."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    def _may_go(self, utc: float) -> bool:
        return self._waiting[0].may_disturb or not self._quiet.contains(datetime.fromtimestamp(utc, UTC))

    async def _send(self, message: Message) -> str:
        """Send a message; return why it did not arrive, empty if it did."""
        self._is_final = False
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self.channel.send(message)
        except TimeoutError:
            return f"no answer within {self._timeout_seconds:g} s"
        except DeliveryError as error:
            self._is_final = error.is_final
            return str(error)
        except (
            Exception
        ) as error:  # a bug of ours must not end the daemon; its text may have the address in it
            self._is_final = True
            return type(error).__name__
        return ""

    def _take(self, failure: str, monotonic: float) -> None:
        self._sending = None
        if not failure:
            self._delivered(self._waiting.popleft())
            self.notice = ""
            self._begin_anew()
            return
        if failure != self.notice:
            self._log.warning("notify.failed", channel=self.channel.name, reason=failure)
        self.notice = failure
        since = monotonic if self._tried_since is None else self._tried_since
        if self._is_final or monotonic - since >= GIVE_UP_SECONDS:
            self._log.error("notify.given_up", channel=self.channel.name, reason=failure)
            self._waiting.popleft()
            self._begin_anew()
            return
        self._due = monotonic + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, LONGEST_RETRY_SECONDS)

    def _begin_anew(self) -> None:
        self._due, self._retry_seconds, self._tried_since = 0.0, FIRST_RETRY_SECONDS, None
