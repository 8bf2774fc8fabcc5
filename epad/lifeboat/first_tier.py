"""Write the lifeboat's first tier: the small and irreplaceable, in under a second, on a full disk too."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from epad.lifeboat.frames import Writer, prepare

READ_SECONDS = 0.4
"""What one source may take: a disk that hangs on one must not keep the others from being saved."""
END = "END"
END_BYTES = 8_192
"""Kept free for the last frame, which says what is there and what is not: without it nobody knows the rest is whole."""

Gather = Callable[[int], bytes]
"""Reads a source, in a thread; it is told how many bytes there is room for."""


@dataclass(frozen=True, slots=True)
class Item:
    """Describes a frame to write. Small and irreplaceable ones go first."""

    name: str
    gather: Gather


@dataclass(frozen=True, slots=True)
class Written:
    """Reports the present contents of the first tier. `missing` gives the reason for each item that it lacks."""

    frames: tuple[str, ...]
    missing: tuple[str, ...]
    failure: str = ""

    @property
    def sentence(self) -> str:
        """Describe it in one line for the journal."""
        if self.failure:
            return f"the first tier could not be written: {self.failure}"
        left_out = f"; left out: {'; '.join(self.missing)}" if self.missing else ""
        return f"first tier written: {', '.join(self.frames)}{left_out}"


class FirstTier:
    """Writes the file of the first tier. A later writing replaces the former: the newest story counts."""

    def __init__(self, path: Path, size: int, items: Callable[[str], Sequence[Item]]) -> None:
        self.path = path
        self._size = size
        self._items = items
        self._one_at_a_time = asyncio.Lock()
        self._log = structlog.get_logger("epad.lifeboat")

    async def prepare(self) -> str:
        """Have the file there, and its blocks allocated; why it is not, if it could not be made."""
        try:
            await asyncio.to_thread(prepare, self.path, self._size)
        except OSError as error:
            return f"{self.path}: {error.strerror or error}"
        return ""

    async def write(self, reason: str) -> Written:
        """Gather and write, item by item. Never raises: a failure to save an item is part of the story."""
        async with self._one_at_a_time:
            return await self._write(reason, time.monotonic())

    async def _write(self, reason: str, began: float) -> Written:
        try:
            writer = Writer(self.path, secrets.token_bytes(16))
        except OSError as error:
            return self._told(Written((), (), f"{self.path}: {error.strerror or error}"), began)
        frames: list[str] = []
        missing: list[str] = []
        try:
            for item in self._items(reason):
                why = await self._save(writer, item)
                if why:
                    missing.append(f"{item.name}: {why}")
                else:
                    frames.append(item.name)
            await asyncio.to_thread(writer.put, END, "\n".join([*frames, "", *missing]).encode())
        except OSError as error:
            failure = f"{self.path}: {error.strerror or error}"
            return self._told(Written(tuple(frames), tuple(missing), failure), began)
        finally:
            writer.close()
        return self._told(Written(tuple(frames), tuple(missing)), began)

    async def _save(self, writer: Writer, item: Item) -> str:
        """Save one item; why it could not be, or nothing. Raises OSError where the file itself fails."""
        room = max(0, writer.room(item.name) - END_BYTES)
        try:
            data = await _in_own_thread(item, room)
        except TimeoutError:
            return f"not read within {READ_SECONDS:g} s"
        except Exception as error:  # whatever a damaged source does, the next one is saved
            return str(error) or type(error).__name__
        if len(data) > room or not await asyncio.to_thread(writer.put, item.name, data):
            return f"{len(data)} bytes, and the file is full"
        return ""

    def _told(self, written: Written, began: float) -> Written:
        self._log.warning(
            "lifeboat.first_tier",
            frames=written.frames,
            missing=written.missing,
            failure=written.failure,
            seconds=round(time.monotonic() - began, 3),
        )
        return written


async def _in_own_thread(item: Item, room: int) -> bytes:
    """Read in a thread that nobody waits for at the end: it may be stuck in a dead disk for good."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def settle(data: bytes | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(data or b"")

    def work() -> None:
        try:
            data, error = item.gather(room), None
        except Exception as caught:  # carried to the loop, which decides
            data, error = None, caught
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, data, error)

    threading.Thread(target=work, name=f"lifeboat {item.name}", daemon=True).start()
    async with asyncio.timeout(READ_SECONDS):
        return await done
