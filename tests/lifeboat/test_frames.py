"""The first tier's container."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.lifeboat.frames import BLOCK_BYTES, Writer, encode, frames, newest, prepare

BOAT, OLDER = b"B" * 16, b"A" * 16
SIZE = 64 * BLOCK_BYTES


def write(path: Path, boat: bytes, *named: tuple[str, bytes]) -> list[bool]:
    writer = Writer(path, boat)
    try:
        return [writer.put(name, data) for name, data in named]
    finally:
        writer.close()


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=1_500)), max_size=8))
def test_what_was_put_comes_back_whatever_it_is(named: list[tuple[str, bytes]]) -> None:
    """Even data that looks like a frame."""
    data = b"".join(encode(BOAT, index, name, body) for index, (name, body) in enumerate(named))
    assert [(f.name, f.data) for f in newest(data)] == named
    nested = encode(BOAT, 0, "outer", data)
    assert [f.name for f in newest(nested)] == ["outer"]


@given(st.integers(0, 6 * BLOCK_BYTES - 1), st.integers(1, 255))
def test_a_damaged_byte_costs_no_more_than_its_own_frame(at: int, change: int) -> None:
    """The ones behind it are found again at the next block; none is ever given out changed."""
    whole = b"".join(encode(BOAT, index, f"part-{index}", bytes([index]) * 700) for index in range(3))
    damaged = bytearray(whole)
    damaged[at] ^= change
    names = [f.name for f in frames(bytes(damaged))]
    hurt = f"part-{at // (2 * BLOCK_BYTES)}"
    padding = at % (2 * BLOCK_BYTES) >= 70 + 6 + 700
    assert names == [f"part-{n}" for n in range(3) if padding or f"part-{n}" != hurt]
    assert all(set(f.data) == {f.index} for f in frames(bytes(damaged)))


@pytest.mark.parametrize("cut", range(0, 6 * BLOCK_BYTES, 301))
def test_a_cut_container_has_every_frame_before_the_cut(cut: int) -> None:
    """A power cut in the middle of a write is a cut."""
    whole = b"".join(encode(BOAT, index, f"part-{index}", bytes(700)) for index in range(3))
    names = [f.name for f in frames(whole[:cut])]
    assert names == [f"part-{n}" for n in range(3) if n * 2 * BLOCK_BYTES + 776 <= cut]


def test_a_shorter_story_over_a_longer_one_hides_what_is_left_of_it(tmp_path: Path) -> None:
    """Frames of one writing share its name, and the newest begins at the front."""
    path = tmp_path / "tier"
    assert prepare(path, SIZE)
    write(path, OLDER, *((f"old-{n}", bytes(600)) for n in range(5)))
    assert write(path, BOAT, ("new", b"1")) == [True]
    assert [f.name for f in newest(path.read_bytes())] == ["new"]
    assert "old-4" in [f.name for f in frames(path.read_bytes())]


def test_what_does_not_fit_is_refused_and_the_next_smaller_one_goes_in(tmp_path: Path) -> None:
    """The file never grows: on a full disk it could not."""
    path = tmp_path / "tier"
    prepare(path, SIZE)
    assert write(path, BOAT, ("large", bytes(SIZE)), ("small", b"1")) == [False, True]
    assert path.stat().st_size == SIZE


def test_a_file_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    """It may hold what a former life saved; one of another size is replaced."""
    path = tmp_path / "room" / "tier"
    prepare(path, SIZE)
    write(path, BOAT, ("kept", b"1"))
    assert not prepare(path, SIZE)
    assert [f.name for f in newest(path.read_bytes())] == ["kept"]
    assert prepare(path, 2 * SIZE)
    assert newest(path.read_bytes()) == []
    assert path.stat().st_blocks * 512 >= 2 * SIZE
