"""Check a subsystem's health from outside: an HTTP answer, a connection, a command, one token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from epad.configuration.schema import HealthConfig
from epad.supervisor import health_command

# What a command's complaint may add to its exit status.
MAX_COMPLAINT_CHARACTERS = 120
_BAD_STATUS = 400

Infer = Callable[[str], Awaitable[str]]
"""Gets one token of a model and returns why it could not, or nothing."""


class Checker(Protocol):
    """Asks once."""

    async def check(self, config: HealthConfig) -> str:
        """Return the fault; empty if there is none. Takes at most `config.timeout_seconds`, and a second to end it."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """Sums up the checks of one process: the failures in a row, the last failure, and its time."""

    checked_at: float
    failures: int = 0
    reason: str = ""

    def after(self, failure: str, now: float) -> Health:
        """Return it with one more check; an empty `failure` is a check that passed."""
        return Health(now, self.failures + 1, failure) if failure else Health(now)


class NoChecker:
    """For a supervisor whose subsystems have no checks."""

    async def check(self, config: HealthConfig) -> str:
        return f"nobody can check {', '.join(config.ways)} here"


class HealthChecker:
    """Checks health in every way; commands get this environment. A failed check is an answer, never an exception."""

    def __init__(self, infer: Infer, environment: Mapping[str, str]) -> None:
        self._infer = infer
        self._environment = environment

    async def check(self, config: HealthConfig) -> str:
        try:
            async with asyncio.timeout(config.timeout_seconds):
                return await self._ask(config)
        except TimeoutError:
            return f"no answer within {config.timeout_seconds:g} s"
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return str(error) or type(error).__name__

    async def _ask(self, config: HealthConfig) -> str:
        match config.ways:
            case ("http",):
                return await _ask_http(config.http)
            case ("tcp",):
                return await _ask_tcp(config.tcp)
            case ("command",):
                return await self._ask_command(config.command)
            case ("inference",):
                return await self._infer(config.inference)
            case _:
                return ""

    async def _ask_command(self, command: tuple[str, ...]) -> str:
        status, said = await health_command.run(command, self._environment)
        if status == 0:
            return ""
        complaint = said.decode(errors="replace").strip().partition("\n")[0][:MAX_COMPLAINT_CHARACTERS]
        return f"{command[0]} exited with {status}" + (f": {complaint}" if complaint else "")


async def _ask_http(url: str) -> str:
    # A connection of its own each time: what is asked is whether a new client would be served.
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.get(url, allow_redirects=False) as answer,
    ):
        return f"{url} answered {answer.status}" if answer.status >= _BAD_STATUS else ""


async def _ask_tcp(address: str) -> str:
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return ""
