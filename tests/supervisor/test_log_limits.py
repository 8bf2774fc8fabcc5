"""What a log takes on the disk, as the log pump writes it: within its size, and nothing is lost unsaid."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.configuration.schema import LogConfig
from epad.supervisor.child_logs import MARK, ChildLog, index
from epad.supervisor.log_reader import follow, last_lines, offset_at

SMALL = LogConfig(max_bytes=65_536, keep=2)
MOST = SMALL.max_bytes * 5 // 4


@pytest.fixture
def log(tmp_path: Path) -> ChildLog:
    return ChildLog(tmp_path / "it.log", SMALL)


def on_disk(log: ChildLog) -> list[int]:
    """How much of the disk each file there is takes, with its index and what is reserved ahead of it."""
    return [
        sum(path.stat().st_blocks * 512 for path in (file, index(file)) if path.exists())
        for file in log.path.parent.glob("it.log*")
        if not file.name.endswith(".times")
    ]


@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 200_000), st.sampled_from([1, 80, 5_000, 1 << 20])), max_size=12
    ),
    keep=st.integers(0, 3),
)
def test_no_file_ever_outgrows_its_size(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int]], keep: int
) -> None:
    """Whatever sizes are written and however long the lines are; and there are never more files than are kept."""
    log = ChildLog(tmp_path_factory.mktemp("logs") / "it.log", LogConfig(max_bytes=65_536, keep=keep))
    for number, (size, line) in enumerate(pieces):
        log.append((b"x" * (line - 1) + b"\n") * (size // line) + b"y" * (size % line), float(number))
        log.tend(float(number))
        assert all(taken <= MOST for taken in on_disk(log)), on_disk(log)
        assert len(on_disk(log)) <= keep + 1
    log.close()


@given(lengths=st.lists(st.integers(0, 9_000), min_size=1, max_size=60), step=st.integers(1, 70_000))
def test_a_line_is_not_cut_in_two(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], step: int
) -> None:
    """A rotation falls between lines where these come whole; what is kept is the end of what was printed."""
    log = ChildLog(tmp_path_factory.mktemp("logs") / "it.log", SMALL)
    lines = [f"{number} " + "x" * length for number, length in enumerate(lengths)]
    group: list[str] = []
    for line in lines:
        group.append(line)
        if sum(map(len, group)) >= step:
            log.append("".join(f"{text}\n" for text in group).encode(), 1.0)
            group = []
    log.append("".join(f"{text}\n" for text in group).encode(), 1.0)
    kept = last_lines(log, len(lines))
    assert kept == lines[len(lines) - len(kept) :]
    log.close()


def test_a_line_without_an_end_is_kept_within_the_size_too(log: ChildLog) -> None:
    """A progress bar, or a binary: no line break for megabytes."""
    for _ in range(100):
        log.append(b"x" * 100_000, 1.0)
    assert max(on_disk(log)) <= MOST
    assert len(log.files()) == 3


def test_a_deleted_log_begins_anew_with_the_next_line(log: ChildLog) -> None:
    """Nothing goes on into a file that has no name any more."""
    log.append(b"one\n", 1.0)
    log.path.unlink()
    log.append(b"two\n", 2.0)
    assert log.path.read_text() == "two\n"
    log.path.rename(log.path.with_name("moved"))
    log.append(b"three\n", 3.0)
    log.tend(4.0)
    assert log.path.read_text() == "three\n"
    assert offset_at(log.path, 5.0) == 6


def test_a_rotated_file_gives_back_what_was_reserved(log: ChildLog) -> None:
    """What is reserved ahead is for the present file alone."""
    log.append(b"x" * 40_000 + b"\n", 1.0)
    log.tend(1.0)
    assert log.path.stat().st_blocks * 512 >= SMALL.max_bytes
    log.append(b"y" * 40_000 + b"\n", 2.0)
    assert log.former(1).stat().st_size == 40_001
    assert log.former(1).stat().st_blocks * 512 <= 45_056


def test_fewer_files_are_kept_after_a_reload(log: ChildLog) -> None:
    """Those beyond the new number go at the next rotation, however many they are."""
    log.config = LogConfig(max_bytes=65_536, keep=5)
    for _ in range(8):
        log.append(b"x" * 60_000, 1.0)
    assert len(log.files()) == 6
    log.config = SMALL
    for _ in range(2):
        log.append(b"x" * 60_000, 1.0)
    names = sorted(path.name for path in log.path.parent.iterdir() if path.suffix != ".times")
    assert names == ["it.log", "it.log.1", "it.log.2"]


def test_another_writer_is_cut_to_size_and_goes_on(log: ChildLog) -> None:
    """A child of an older epad holds the file open itself; that its file is renamed it would not notice."""
    with log.path.open("ab", buffering=0) as child:
        child.write(b"x" * 200_000)
        log.append(b"of the pump\n", 1.0)
        child.write(b"of the child\n")
    assert log.path.read_text() == "of the pump\nof the child\n"
    assert log.former(1).stat().st_size == MOST
    assert "another than the log pump" in log.dropped_because


def test_a_trickle_does_not_grow_an_index_larger_than_its_log(log: ChildLog) -> None:
    """A byte every two seconds, for a day; a time is still found, and never too late."""
    for second in range(0, 86_400, 2):
        log.append(b"\n", float(second))
        log.tend(float(second))
    assert index(log.path).stat().st_size <= 256 * MARK.size
    found = offset_at(log.path, 43_200.0)
    assert 21_600 - 2 * SMALL.max_bytes // 128 <= found <= 21_601


async def test_a_follower_goes_on_when_the_log_is_deleted(log: ChildLog) -> None:
    """What it has read is not given to it again; that something may be missing is."""
    log.append(b"x" * 65_000 + b"\n", 1.0)
    log.append(b"x" * 65_000 + b"\n", 1.0)
    assert log.former(1).exists()
    lines = follow(log)
    first = asyncio.ensure_future(anext(lines))
    while not first.done():
        log.append(b"begun\n", 1.0)
        await asyncio.sleep(0.01)
    log.path.unlink()
    log.append(b"after\n", 2.0)
    seen = await first
    while "after" not in seen:
        seen += await anext(lines)
    assert set(seen) == {"begun", "[epad: lines may be missing here]", "after"}
    await lines.aclose()


async def test_a_slow_follower_is_told_when_all_that_it_knew_is_gone(log: ChildLog) -> None:
    """It reads a file that was deleted by rotations to its end, and goes on with the oldest that there is."""
    lines = follow(log)
    first = asyncio.ensure_future(anext(lines))
    while not first.done():
        log.append(b"begun\n", 1.0)
        await asyncio.sleep(0.01)
    for number in range(6):
        log.append(b"%d" % number + b"x" * 60_000 + b"\n", 2.0)
    log.append(b"end\n", 3.0)
    seen = await first
    while "end" not in seen:
        seen += await anext(lines)
    numbers = [line[0] for line in seen if line.endswith("x")]
    assert numbers == sorted(set(numbers))
    assert numbers[-3:] == ["3", "4", "5"]
    assert ("[epad: lines may be missing here]" in seen) == (len(numbers) < 6)
    await lines.aclose()
