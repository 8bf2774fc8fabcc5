"""What can be read of a file that cannot be read whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from epad.lifeboat.salvage import BLOCK_BYTES, salvage

CONTENT = bytes(range(256)) * 80  # five blocks


def failing(*blocks: int):
    """A disk that cannot read some blocks."""

    def read(descriptor: int, length: int, offset: int) -> bytes:
        if offset // BLOCK_BYTES in blocks:
            raise OSError(errno.EIO, "Input/output error")
        return os.pread(descriptor, length, offset)

    return read


@pytest.mark.parametrize(
    ("blocks", "ranges"),
    [
        ((), ()),
        ((1,), ((4096, 4096),)),
        ((0, 1, 3), ((0, 8192), (12288, 4096))),
        ((0, 1, 2, 3, 4), ((0, 20480),)),
    ],
)
def test_unreadable_blocks_are_zeros_and_named_and_the_rest_is_there(
    tmp_path: Path, blocks: tuple[int, ...], ranges: tuple[tuple[int, int], ...]
) -> None:
    """Nothing is fatal, and neighbours are one range."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(CONTENT)
    salvaged = salvage(source, copy, failing(*blocks))
    assert (salvaged.size_bytes, salvaged.unreadable) == (len(CONTENT), ranges)
    expected = bytearray(CONTENT)
    for at, length in ranges:
        expected[at : at + length] = bytes(length)
    assert copy.read_bytes() == expected
    assert ("could not be read" in salvaged.sentence) is bool(ranges)


def test_what_is_not_there_or_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A sentence, not a traceback."""
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    assert "No such file" in salvage(tmp_path / "nothing", tmp_path / "copy").sentence
    assert "Is a directory" in salvage(source, tmp_path).sentence
