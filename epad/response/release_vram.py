"""Getting VRAM back from a subsystem, by the gentlest rung that works: each is judged by VRAM read again after it.

Freezing frees no VRAM, and a server that says "unloaded" may not have. SIGKILL is last: it has wedged drivers
(NVIDIA/dcgm-exporter#84), and left workers behind that hold all of it (vllm#55510).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import aiohttp

from probes.vram.probe import HeldVram
from statemachine.clock import Clock

_POLL_SECONDS = 0.25
_KILL_NOTE = "SIGKILL can wedge a GPU's driver: if its VRAM does not come back, reset the card or reboot"


class ReleaseRung(StrEnum):
    """The ladder, gentlest first."""

    UNLOAD = "unload"
    SLEEP = "sleep"
    TERMINATE = "terminate"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class ReleaseLimits:
    """Sets how long to wait, and when it is enough."""

    request_seconds: float = 30.0
    settle_seconds: float = 5.0
    keep_ratio: float = 0.25
    sleep_level: int = 1


@dataclass(frozen=True, slots=True)
class ModelServer:
    """The server that a subsystem is: where it answers, and the key it wants. A URL that ends in /v1 is cut there."""

    url: str
    key: str = ""
    socket_path: str = ""

    def session(self) -> aiohttp.ClientSession:
        """Return a connection of its own: it is asked a few times a year, and not through the gateway's."""
        connector = aiohttp.UnixConnector(self.socket_path) if self.socket_path else aiohttp.TCPConnector()
        return aiohttp.ClientSession(connector=connector)

    def at(self, path: str) -> str:
        return self.url.rstrip("/").removesuffix("/v1") + path

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


class Processes(Protocol):
    """Ends a subsystem's whole process tree. Its restart policy does not start it again."""

    async def terminate(self, subsystem: str) -> bool:
        """Send TERM, wait for its own grace, and say whether all of it has ended."""
        ...

    async def kill(self, subsystem: str) -> bool:
        """Send KILL, and tell if all of it has ended; the rest is stuck in the driver."""
        ...


Measure = Callable[[str], Awaitable[HeldVram]]
"""Looks at the GPUs now. It never raises: what cannot be seen is None."""


@dataclass(frozen=True, slots=True)
class RungTaken:
    """Reports one rung: the action, and VRAM before and after it; None if it could not be read."""

    rung: ReleaseRung
    result: str
    before_bytes: int | None
    after_bytes: int | None
    seconds: float

    def evidence(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "rung": self.rung.value,
            "result": self.result,
            "before_bytes": self.before_bytes,
            "after_bytes": self.after_bytes,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class VramReleased:
    """Reports a release. `released` is None if VRAM could not be read: done, as far as is known."""

    subsystem: str
    before_bytes: int | None
    after_bytes: int | None
    released: bool | None
    rungs: tuple[RungTaken, ...]
    note: str = ""

    @property
    def sentence(self) -> str:
        """Describe it in one line for the journal."""
        if self.before_bytes == 0:
            return "it held no VRAM"
        taken = "; ".join(f"{rung.rung}: {rung.result}" for rung in self.rungs)
        words = {True: "VRAM released", False: "VRAM not released", None: "VRAM cannot be read"}[
            self.released
        ]
        text = (
            f"{words}: {_mebibytes(self.before_bytes)} before, {_mebibytes(self.after_bytes)} after ({taken})"
        )
        return f"{text}; {self.note}" if self.note else text

    def evidence(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "before_bytes": self.before_bytes,
            "after_bytes": self.after_bytes,
            "released": self.released,
            "rungs": [rung.evidence() for rung in self.rungs],
        }


class VramRelease:
    """Takes VRAM back from one subsystem at a time. The gateway must be closed to it first: a turn loads it again."""

    def __init__(
        self,
        limits: ReleaseLimits,
        *,
        server_of: Callable[[str], ModelServer | None],
        measure: Measure,
        processes: Processes,
        clock: Clock,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._limits = limits
        self._server_of = server_of
        self._measure = measure
        self._processes = processes
        self._clock = clock
        self._pause = pause

    async def release(self, subsystem: str) -> VramReleased:
        """Climb until enough is free; a repeat after a crash has the same end, since freed memory stays free."""
        first = await self._measure(subsystem)
        if first.held_bytes == 0:
            return VramReleased(subsystem, 0, 0, released=True, rungs=())
        rungs: list[RungTaken] = []
        now = first
        for rung in ReleaseRung:
            began, before = self._clock.monotonic(), now
            attempt = await self._attempt(rung, subsystem)
            if attempt is None:
                continue
            result, ended = attempt
            # What ignores TERM is being killed already: that is the next rung's to judge.
            refused = rung is ReleaseRung.TERMINATE and not ended
            now = await (self._measure(subsystem) if refused else self._settled(subsystem, first))
            seconds = self._clock.monotonic() - began
            rungs.append(RungTaken(rung, result, before.held_bytes, now.held_bytes, seconds))
            if ended or (not refused and self._is_enough(first, now)):
                break
        note = _note(first, now, rungs)
        released = None if now.held_bytes is None else self._is_enough(first, now)
        return VramReleased(subsystem, first.held_bytes, now.held_bytes, released, tuple(rungs), note)

    async def _attempt(self, rung: ReleaseRung, subsystem: str) -> tuple[str, bool] | None:
        """Take one rung: return its result, and whether the subsystem has ended; None if it does not apply."""
        match rung:
            case ReleaseRung.UNLOAD:
                result = await self._ask(subsystem, self._unload)
            case ReleaseRung.SLEEP:
                result = await self._ask(subsystem, self._sleep)
            case ReleaseRung.TERMINATE:
                ended = await self._processes.terminate(subsystem)
                return ("it has ended" if ended else "it did not end within its grace"), ended
            case ReleaseRung.KILL:
                ended = await self._processes.kill(subsystem)
                return ("it was killed" if ended else "it does not die: it is stuck in the driver"), ended
        return None if result is None else (result, False)

    async def _ask(self, subsystem: str, ask: Callable[[ModelServer], Awaitable[str | None]]) -> str | None:
        server = self._server_of(subsystem)
        if server is None:
            return None
        try:
            return await ask(server)
        except TimeoutError:
            return f"no answer within {self._limits.request_seconds:g} s"
        except aiohttp.ClientError as error:
            return f"no answer: {error}"

    async def _unload(self, server: ModelServer) -> str | None:
        """Ollama: each loaded model is told to be kept for no time."""
        status, body = await self._call("GET", server, "/api/ps")
        models = body.get("models") if status == 200 and isinstance(body, dict) else None
        if not isinstance(models, list):
            return None  # it is no Ollama
        names = [
            model["name"]
            for model in models
            if isinstance(model, dict) and isinstance(model.get("name"), str)
        ]
        said = []
        for name in names:
            wish = {"model": name, "keep_alive": 0, "stream": False}
            status, _ = await self._call("POST", server, "/api/generate", wish)
            said.append(name if status == 200 else f"{name} answered {status}")
        return f"asked to unload {', '.join(said)}" if said else "no model is loaded"

    async def _sleep(self, server: ModelServer) -> str | None:
        """vLLM: only with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1 is there such a route."""
        status, _ = await self._call("POST", server, f"/sleep?level={self._limits.sleep_level}")
        if status in {404, 405}:
            return None
        return f"asked to sleep, level {self._limits.sleep_level}" if status == 200 else f"answered {status}"

    async def _call(
        self, method: str, server: ModelServer, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, Any]:
        """Send one request to the server; return its status, and its JSON or None.

        Raises aiohttp.ClientError, TimeoutError.
        """
        timeout = aiohttp.ClientTimeout(total=self._limits.request_seconds)
        async with (
            server.session() as session,
            session.request(
                method, server.at(path), json=body, headers=server.headers, timeout=timeout
            ) as answer,
        ):
            try:
                return answer.status, await answer.json(content_type=None)
            except ValueError:
                return answer.status, None

    async def _settled(self, subsystem: str, first: HeldVram) -> HeldVram:
        """VRAM after a rung, read until it is enough: the driver needs a moment to clean up (llama-swap#97)."""
        deadline = self._clock.monotonic() + self._limits.settle_seconds
        now = await self._measure(subsystem)
        while not self._is_enough(first, now) and self._clock.monotonic() < deadline:
            await self._pause(_POLL_SECONDS)
            now = await self._measure(subsystem)
        return now

    def _is_enough(self, first: HeldVram, now: HeldVram) -> bool:
        if first.held_bytes is None or now.held_bytes is None:
            return False
        return now.held_bytes <= self._limits.keep_ratio * first.held_bytes and not _ghosts(first, now)


def _ghosts(first: HeldVram, now: HeldVram) -> int:
    """Return bytes that left the subsystem's processes and are still in use by no process; 0 if less than half.

    Judged by the bytes without an owner, so that another's growth in the meantime is not mistaken for it.
    """
    if first.held_bytes is None or now.held_bytes is None:
        return 0
    if first.unattributed_bytes is None or now.unattributed_bytes is None:
        return 0
    left = now.unattributed_bytes - first.unattributed_bytes
    return left if left > 0 and 2 * left >= first.held_bytes - now.held_bytes else 0


def _note(first: HeldVram, now: HeldVram, rungs: list[RungTaken]) -> str:
    notes = []
    if ghosts := _ghosts(first, now):
        notes.append(f"{_mebibytes(ghosts)} are in use by no process now")
    if rungs and rungs[-1].rung is ReleaseRung.KILL:
        notes.append(_KILL_NOTE)
    return "; ".join(notes)


def _mebibytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size >> 20} MiB"
