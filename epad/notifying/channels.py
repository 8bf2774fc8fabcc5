"""The ways to a person: ntfy, a webhook, the desktop. Each sends one message, or says why not.

No address and no token is in the reason: a topic's name is all that it takes to read along.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp

from epad import EpadError
from epad.notifying.incident import Gravity, Kind, Message
from epad.notifying.redaction import redact

_AGAIN = frozenset({408, 425, 429})
_NTFY_PRIORITY = {Gravity.CALM: "3", Gravity.TROUBLE: "4", Gravity.CRITICAL: "5"}
_URGENCY = {Gravity.CALM: "normal", Gravity.TROUBLE: "normal", Gravity.CRITICAL: "critical"}
_TAGS = {Kind.ENDED: "white_check_mark", Kind.ASKED: "question", Kind.TOOL_ASKED: "question"}
_TITLES = {
    Kind.STARTED: "epad on {host}: trouble",
    Kind.ENDED: "epad on {host}: over",
    Kind.ASKED: "epad on {host}: question",
    Kind.TOOL_ASKED: "epad on {host}: question",
    Kind.TEST: "epad on {host}: test",
}


class DeliveryError(EpadError):
    """A message did not arrive; `is_final` if no later try will do better."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Channel(Protocol):
    """Sends messages to a person in one way."""

    @property
    def name(self) -> str: ...

    async def send(self, message: Message) -> None:
        """Send it once. Raises DeliveryError."""
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """Holds the address to send to, and the token for it; neither is ever shown."""

    url: str = field(repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read the address from the first line, and the token from the second. Raises ValueError."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        parts = urlsplit(lines[0]) if lines else None
        if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("its first line is no http:// or https:// address")
        if len(lines) > 2:
            raise ValueError("it has more than an address and a token")
        return cls(lines[0], lines[1] if len(lines) > 1 else "")

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class Ntfy:
    """A topic of an ntfy server, ntfy.sh or one's own."""

    name = "ntfy"

    def __init__(self, address: Address, host: str) -> None:
        self._address = address
        self._host = host

    async def send(self, message: Message) -> None:
        gravity = Gravity.CALM if message.kind is Kind.ENDED else message.incident.gravity
        headers = {
            "Title": title(message, self._host),
            "Priority": _NTFY_PRIORITY[gravity],
            "Tags": _TAGS.get(message.kind, "rotating_light"),
            **self._address.headers,
        }
        await _post(self._address, headers, _safe(message, self._address).encode())


class Webhook:
    """Any address that takes JSON."""

    name = "webhook"

    def __init__(self, address: Address, host: str) -> None:
        self._address = address
        self._host = host

    async def send(self, message: Message) -> None:
        incident = message.incident
        values = {
            "event": str(message.kind),
            "incident": incident.id,
            "host": self._host,
            "phase": incident.phase,
            "severity": incident.gravity.name.lower(),
            "subsystems": list(incident.subsystems),
            "sentence": _safe(message, self._address),
            "begun": _iso(incident.begun),
            "at": _iso(message.at),
        }
        await _post(self._address, self._address.headers, json=values)


class Desktop:
    """The notifications of the desktop that the daemon runs on, through `notify-send`."""

    name = "desktop"

    def __init__(self, host: str, environment: Mapping[str, str], program: str = "notify-send") -> None:
        self._host = host
        self._environment = dict(environment)
        self._program = program

    async def send(self, message: Message) -> None:
        if not _has_session_bus(self._environment):
            raise DeliveryError(
                "there is no session bus here: epad has to run in your session", is_final=True
            )
        urgency = "normal" if message.kind is Kind.ENDED else _URGENCY[message.incident.gravity]
        arguments = (
            "--app-name=epad",
            f"--urgency={urgency}",
            "--",
            title(message, self._host),
            redact(message.text),
        )
        try:
            child = await asyncio.create_subprocess_exec(
                self._program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environment,
            )
        except FileNotFoundError:
            raise DeliveryError(f"{self._program} is not installed (libnotify-bin)", is_final=True) from None
        except OSError as error:
            raise DeliveryError(f"{self._program}: {error.strerror}") from None
        try:
            status = await child.wait()
        except asyncio.CancelledError:
            child.kill()
            await child.wait()
            raise
        if status:
            raise DeliveryError(f"{self._program} ended with {status}: is there a desktop session here?")


def _has_session_bus(environment: Mapping[str, str]) -> bool:
    """Tell if there is a desktop's bus: without one notify-send would try to start one."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    return bool(environment.get("DBUS_SESSION_BUS_ADDRESS")) or (
        bool(runtime) and Path(runtime, "bus").is_socket()
    )


def title(message: Message, host: str) -> str:
    """Return the few words above a message; ASCII, since they travel in a header."""
    return _TITLES[message.kind].format(host=host.encode("ascii", "replace").decode())


def this_host() -> str:
    """Return the machine's name, without its domain."""
    return socket.gethostname().partition(".")[0] or "this machine"


def _safe(message: Message, address: Address) -> str:
    return redact(message.text, (address.url, address.token))


def _iso(utc: float) -> str:
    return datetime.fromtimestamp(utc, UTC).isoformat(timespec="seconds")


async def _post(
    address: Address, headers: Mapping[str, str], data: bytes | None = None, json: object = None
) -> None:
    """Post once. A redirect is not followed: it would carry the token to whoever is named there."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                address.url, data=data, json=json, headers=headers, allow_redirects=False
            ) as response,
        ):
            status = response.status
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # Its text has the address in it.
        is_final = isinstance(error, aiohttp.InvalidURL | ValueError)
        raise DeliveryError(f"could not be reached ({type(error).__name__})", is_final=is_final) from None
    if 300 <= status < 400:
        raise DeliveryError(
            f"answered {status}: redirects are not followed; name where it leads", is_final=True
        )
    if status >= 400:
        raise DeliveryError(f"answered {status}", is_final=status < 500 and status not in _AGAIN)
