"""The first tier: whatever a source or the disk does, the rest is saved and the outcome is said."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from epad.lifeboat.ballast import Ballast
from epad.lifeboat.first_tier import END, FirstTier, Item
from epad.lifeboat.frames import newest

SIZE = 1 << 16


def item(name: str, data: bytes = b"data") -> Item:
    return Item(name, lambda _: data)


async def tier_with(directory: Path, *items: Item) -> FirstTier:
    tier = FirstTier(directory / "tier", SIZE, lambda _: items)
    assert await tier.prepare() == ""
    return tier


async def test_a_source_that_fails_hangs_or_does_not_fit_costs_only_itself(tmp_path: Path) -> None:
    """Each is named with its reason, in the result and in the file."""
    forever = threading.Event()

    def fails(_: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    def hangs(_: int) -> bytes:
        forever.wait()
        return b""

    parts = (
        item("first"),
        Item("broken", fails),
        Item("hung", hangs),
        item("huge", bytes(SIZE)),
        item("last"),
    )
    tier = await tier_with(tmp_path, *parts)
    written = await tier.write("a test")
    forever.set()
    assert written.frames == ("first", "last")
    reasons = dict(line.split(": ", 1) for line in written.missing)
    assert "Input/output error" in reasons["broken"]
    assert "not read within" in reasons["hung"]
    assert "the file is full" in reasons["huge"]
    saved = newest(tier.path.read_bytes())
    assert [frame.name for frame in saved] == ["first", "last", END]
    assert b"hung: not read within" in saved[-1].data


async def test_a_source_is_told_how_much_room_there_is(tmp_path: Path) -> None:
    """The ledger's tail takes what the others leave."""
    tier = await tier_with(tmp_path, item("first", bytes(1_000)), Item("rest", bytes))
    written = await tier.write("a test")
    assert written.frames == ("first", "rest")
    assert newest(tier.path.read_bytes())[-1].name == END


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC], ids=errno.errorcode.get)
async def test_a_disk_that_refuses_is_an_outcome_and_keeps_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """I/O error, read-only file system, a file system that copies on write and is full: at the second frame."""
    tier = await tier_with(tmp_path, item("first"), item("second"), item("third"))
    pwrite, calls = os.pwrite, []

    def failing(descriptor: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) > 1:
            raise OSError(code, os.strerror(code))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", failing)
    written = await tier.write("a test")
    assert written.frames == ("first",)
    assert os.strerror(code) in written.failure
    assert [frame.name for frame in newest(tier.path.read_bytes())] == ["first"]


async def test_two_who_write_at_once_do_not_write_over_each_other(tmp_path: Path) -> None:
    """The journal's failure and a step of LIFEBOAT may both ask for it."""
    tier = await tier_with(tmp_path, *(item(f"part {n}", bytes(2_000)) for n in range(8)))
    await asyncio.gather(*(tier.write(f"reason {n}") for n in range(4)))
    saved = newest(tier.path.read_bytes())
    assert [frame.index for frame in saved] == list(range(9))
    assert saved[-1].name == END


async def test_a_file_that_cannot_be_made_or_is_gone_is_said(tmp_path: Path) -> None:
    """Nothing is raised: the bundle is tried in any case."""
    (tmp_path / "file").write_bytes(b"")
    tier = FirstTier(tmp_path / "file" / "tier", SIZE, lambda _: [])
    assert "Not a directory" in await tier.prepare() or "File exists" in await tier.prepare()
    assert "could not be written" in (await tier.write("a test")).sentence


def test_ballast_is_made_once_and_gives_back_what_it_took(tmp_path: Path) -> None:
    """And it is never what fills the disk."""
    ballast = Ballast(tmp_path / "room" / "ballast", 1 << 20)
    assert ballast.release() == 0
    assert ballast.make()
    assert ballast.make()
    assert ballast.release() == 1 << 20
    assert not ballast.is_there
    assert not Ballast(tmp_path / "room" / "ballast", 1 << 60).make()
    assert list((tmp_path / "room").iterdir()) == []
