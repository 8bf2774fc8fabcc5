"""A runner's side of epad's contract: environment in, sd_notify datagrams out. Standard library only."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

READY_WAIT_SECONDS: Final = 1.0
"""READY must arrive, so it may wait for a busy receiver; the others are dropped rather than waited for."""

DEFAULT_HEARTBEAT_SECONDS: Final = 5.0

ATTEMPT_HEADER: Final = "X-Epad-Attempt"
RETRY_COUNT_HEADER: Final = "x-stainless-retry-count"
"""The word of OpenAI's and Anthropic's libraries for the same count."""
_CALL_CHARACTERS: Final = 40


def attempt_headers(call: str, attempt: int) -> dict[str, str]:
    """Headers that tell epad's gateway which call this is and which try of it, counted from 1.

    `call` is whatever names the question for the program: a key, a round and a role. Send them with every request, so
    that a program's own retries are told from a loop. They tell requests apart and no more: every try is counted,
    charged and limited like any other, and a call that is tried without end is a loop whatever it is called.
    """
    name = hashlib.sha256(call.encode(errors="surrogatepass")).hexdigest()[:_CALL_CHARACTERS]
    return {ATTEMPT_HEADER: f"{name}.{attempt}", RETRY_COUNT_HEADER: str(attempt - 1)}


@dataclass(frozen=True, slots=True)
class Contract:
    """Holds the facts that epad gave this process. Every field is empty without an epad."""

    gateway_url: str = ""
    gateway_key: str = ""
    subsystem: str = ""
    notify_socket: str = ""
    watchdog_seconds: float = 0.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Contract:
        """Read the contract; missing fields stay empty, since a runner works without epad too."""
        microseconds = environment.get("WATCHDOG_USEC", "")
        return cls(
            gateway_url=environment.get("EPAD_GATEWAY_URL", "").rstrip("/"),
            gateway_key=environment.get("EPAD_GATEWAY_KEY", ""),
            subsystem=environment.get("EPAD_SUBSYSTEM", ""),
            notify_socket=environment.get("NOTIFY_SOCKET", ""),
            watchdog_seconds=int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0,
        )

    @property
    def openai_base_url(self) -> str:
        """Return the base URL for an OpenAI client; empty without a gateway."""
        return f"{self.gateway_url}/v1" if self.gateway_url else ""

    @property
    def ollama_base_url(self) -> str:
        """Return the host for an Ollama client; empty without a gateway."""
        return self.gateway_url

    @property
    def heartbeat_seconds(self) -> float:
        """Return how often to send WATCHDOG: half the supervisor's patience, as sd_watchdog_enabled(3) advises."""
        return self.watchdog_seconds / 2 if self.watchdog_seconds else DEFAULT_HEARTBEAT_SECONDS

    def ready(self, status: str = "") -> bool:
        """Say that the work can begin."""
        return self._send(["READY=1", *_status(status)], READY_WAIT_SECONDS)

    def status(self, text: str) -> bool:
        """Report the present work in one line."""
        return self._send(_status(text))

    def progress(self, done: int, total: int, status: str = "") -> bool:
        """Say how far the work has come; a `total` of 0 means that it has no end."""
        return self._send([f"X_EPAD_PROGRESS={done}/{total}", *_status(status)])

    def vram_wanted(self, size_bytes: int) -> bool:
        """Say how much VRAM is about to be taken, all told, before it is; 0 when none is needed any more."""
        return self._send([f"X_EPAD_VRAM_WANTED={size_bytes}"])

    def watchdog(self) -> bool:
        """Say that the loop which does the work still turns."""
        return self._send(["WATCHDOG=1"])

    def saved(self, status: str = "") -> bool:
        """Say that all that matters is on the disk: the answer to the checkpoint signal."""
        return self._send(["X_EPAD_SAVED=1", *_status(status)])

    def stopping(self, status: str = "") -> bool:
        """Say that the end has been asked for and is being made."""
        return self._send(["STOPPING=1", *_status(status)])

    def _send(self, lines: list[str], wait_seconds: float = 0.0) -> bool:
        """Send one datagram and say whether it left. A supervisor that is away never stops the work."""
        if not self.notify_socket or not lines:
            return False
        address = self.notify_socket
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
                datagrams.settimeout(wait_seconds)
                datagrams.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
        return True


def _status(text: str) -> list[str]:
    """Return one STATUS line; a line break in the text would start a field of its own."""
    return [f"STATUS={' '.join(text.split())}"] if text else []


def _always() -> bool:
    return True


async def keep_alive(contract: Contract, is_moving: Callable[[], bool] = _always) -> None:
    """Say WATCHDOG for as long as the work moves; run it beside the work and cancel it with it."""
    while True:
        if is_moving():
            contract.watchdog()
        await asyncio.sleep(contract.heartbeat_seconds)
