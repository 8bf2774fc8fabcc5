"""The files of children: within their size, with room ahead, and never in a child's way."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_SECONDS

from epad.configuration.schema import LogConfig
from epad.supervisor import child_logs
from epad.supervisor.causes import cause_in_log
from epad.supervisor.child_logs import RESERVE_BYTES, ChildLog, index
from epad.supervisor.log_keeper import LogKeeper
from epad.supervisor.log_reader import MAX_LINE_BYTES, follow, last_lines, offset_at

SMALL = LogConfig(max_bytes=65_536, keep=2)


@pytest.fixture
def log(tmp_path: Path) -> ChildLog:
    return ChildLog(tmp_path / "it.log", SMALL)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def write(log: ChildLog, text: str) -> None:
    with log.path.open("a") as file:
        file.write(text)


def test_a_log_that_is_not_there_is_no_trouble(log: ChildLog) -> None:
    """The subsystem has not started yet."""
    log.tend(1.0)
    assert last_lines(log, 10) == []


def prints(log: ChildLog, text: str) -> None:
    """Write as the log pump does."""
    log.append(text.encode(), 1.0)


def test_a_large_log_makes_way_for_a_new_one_and_the_oldest_goes(log: ChildLog) -> None:
    """An appending writer goes on in the same file; so many former ones are kept."""
    with log.path.open("ab", buffering=0) as child:
        for round_ in range(5):
            child.write(b"%d\n" % round_ + b"x" * SMALL.max_bytes)
            log.tend(float(round_))
        child.write(b"now\n")
    assert log.path.read_text() == "now\n"
    assert [path.name for path in log.files()] == ["it.log.2", "it.log.1", "it.log"]
    assert [path.read_bytes()[:1] for path in log.files()] == [b"3", b"4", b"n"]
    assert (log.rotations, log.dropped_bytes) == (5, 0)


def test_what_grew_beyond_measure_keeps_its_end(log: ChildLog) -> None:
    """While no daemon tends it a log may grow large; a copy of all of it would fill the disk."""
    write(log, "first\n" + "x" * 4 * SMALL.max_bytes + "last\n")
    log.tend(1.0)
    former = log.former(1).read_text()
    assert former.endswith("last\n")
    assert len(former) == SMALL.max_bytes * 5 // 4
    assert log.dropped_bytes > 0


def test_there_is_room_ahead(log: ChildLog) -> None:
    """Reserved without changing what the file holds."""
    log.config = LogConfig()
    write(log, "one\n")
    log.tend(1.0)
    status = log.path.stat()
    assert status.st_size == 4
    assert status.st_blocks * 512 >= RESERVE_BYTES


def test_a_full_disk_fails_no_print(full_disk: Path) -> None:
    """A child goes on printing: into its reserve, and then over its own oldest output."""
    log = ChildLog(full_disk / "it.log", LogConfig(max_bytes=1 << 20, keep=2))
    with log.path.open("ab", buffering=0) as child:
        child.write(b"first\n")
        log.tend(0.0)
        with pytest.raises(OSError, match="No space"):
            (full_disk / "hog").write_bytes(b"x" * (8 << 20))
        for round_ in range(60):
            child.write(b"y" * 65_535 + b"\n")  # raises OSError where the disk is full
            log.tend(float(round_))
    assert log.dropped_bytes > 0
    assert last_lines(log, 1) == ["y" * (MAX_LINE_BYTES - 1)]


def test_a_symbolic_link_is_not_followed(log: ChildLog, tmp_path: Path) -> None:
    """Whoever can write to the directory must not have another file truncated."""
    victim = tmp_path / "victim"
    victim.write_text("x" * 2 * SMALL.max_bytes)
    log.path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        log.tend(1.0)
    assert victim.stat().st_size == 2 * SMALL.max_bytes


def test_since_a_time_is_from_the_last_mark_before_it(log: ChildLog) -> None:
    """Over rotations too; where no mark is early enough it is everything."""
    write(log, "one\n")
    log.tend(100.0)
    write(log, "two\n")
    log.tend(200.0)
    write(log, "three\n")
    log.tend(300.0)
    assert last_lines(log, 10, since=50.0) == ["one", "two", "three"]
    assert last_lines(log, 10, since=100.0) == ["two", "three"]
    assert last_lines(log, 10, since=250.0) == ["three"]
    write(log, "x" * SMALL.max_bytes + "\n")
    log.tend(400.0)
    write(log, "four\n")
    log.tend(500.0)
    assert last_lines(log, 2, since=250.0)[-1] == "four"
    assert "one" not in last_lines(log, 10, since=250.0)
    assert last_lines(log, 10, since=600.0) == []


def test_marks_that_are_torn_are_read_as_far_as_they_go(log: ChildLog) -> None:
    """The disk was full in the middle of one."""
    write(log, "one\n")
    log.tend(100.0)
    with index(log.path).open("ab") as marks:
        marks.write(b"torn")
    assert offset_at(log.path, 150.0) == 4


printed = st.text(st.characters(codec="ascii", exclude_characters="\n"), max_size=300)


@given(texts=st.lists(printed, max_size=60), count=st.integers(0, 70))
def test_the_last_lines_are_those_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], count: int
) -> None:
    """However they lie across files, and whatever they hold."""
    directory = tmp_path_factory.mktemp("log")
    log = ChildLog(directory / "it.log", SMALL)
    half = len(texts) // 2
    log.former(1).write_bytes("".join(f"{text}\n" for text in texts[:half]).encode())
    log.path.write_bytes("".join(f"{text}\n" for text in texts[half:]).encode())
    expected = texts[-count:] if count else []
    assert last_lines(log, count) == expected
    shutil.rmtree(directory)


async def test_a_follower_sees_every_line_once_over_a_rotation(log: ChildLog) -> None:
    """What there was is not repeated, half a line waits for its end, and a new file begins at its beginning."""
    write(log, "old\n")
    lines = follow(log)
    first = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    while not log.path.stat().st_size > 4:
        await asyncio.sleep(0.01)
        write(log, "ha")
    write(log, "lf\n")
    assert await first == ["half"]
    prints(log, "before\n" + "x" * (SMALL.max_bytes - 1) + "\n")
    prints(log, "after\n")
    seen: list[str] = []
    while "after" not in seen:
        seen += await anext(lines)
    assert [line[:6] for line in seen] == ["before", "xxxxxx", "after"]
    assert log.rotations == 2
    await lines.aclose()


async def read_to(lines: AsyncGenerator[list[str], None], last: str) -> list[str]:
    """Every line that a follower is given, up to one."""
    seen: list[str] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while last not in seen:
            seen += await anext(lines)
    return seen


async def following(log: ChildLog) -> AsyncGenerator[list[str], None]:
    """A follower that has begun."""
    write(log, "old\n")
    lines = follow(log)
    first = asyncio.ensure_future(anext(lines))
    while not first.done():
        write(log, "begun\n")
        await asyncio.sleep(0.01)
    return lines


async def test_a_follower_that_is_slow_misses_nothing_that_is_kept(log: ChildLog) -> None:
    """More at once than it reads at once, over two rotations."""
    log.config = LogConfig(max_bytes=1 << 20, keep=2)
    lines = await following(log)
    expected = [f"{round_} {number:0100}" for round_ in range(2) for number in range(15_000)]
    expected = expected[:25_000]
    for part in range(0, 25_000, 1_000):
        prints(log, "\n".join(expected[part : part + 1_000]) + "\n")
    prints(log, "end\n")
    seen = await read_to(lines, "end")
    assert [line for line in seen if line != "begun"] == [*expected, "end"]
    assert log.rotations == 2
    await lines.aclose()


async def test_a_follower_is_told_of_what_it_cannot_be_given(
    log: ChildLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the present file goes, and no copy of it: what an older one holds is not read in its place."""
    write(log, "older\n" * 20_000)
    log.tend(1.0)
    lines = await following(log)

    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(child_logs, "_copy", no_room)
    write(log, "x" * SMALL.max_bytes + "\n")
    log.tend(2.0)
    write(log, "end\n")
    seen = await read_to(lines, "end")
    assert [line for line in seen if line != "begun"] == ["[epad: lines may be missing here]", "end"]
    await lines.aclose()


async def test_a_follower_goes_on_over_a_reload(tmp_path: Path) -> None:
    """It is the same log under another configuration."""
    keeper = LogKeeper(lambda name: tmp_path / f"{name}.log", structlog.get_logger())
    keeper.configure({"it": LogConfig()})
    lines = await following(keeper.of("it"))
    keeper.configure({"it": SMALL})
    write(keeper.of("it"), "x" * SMALL.max_bytes + "\n")
    keeper.tend_all(1.0)
    write(keeper.of("it"), "end\n")
    assert keeper.of("it").rotations == 1
    assert (await read_to(lines, "end"))[-1] == "end"
    await lines.aclose()


def test_a_file_size_limit_is_like_a_full_disk(tmp_path: Path) -> None:
    """Where nothing may be mounted: RLIMIT_FSIZE of the daemon fails its copies, and the log begins anew."""
    log = ChildLog(tmp_path / "it.log", SMALL)
    write(log, "x" * (SMALL.max_bytes + 4096))
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from epad.configuration.schema import LogConfig; from epad.supervisor.child_logs import ChildLog\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (32768, 32768))\n"
        "log = ChildLog(Path(sys.argv[1]), LogConfig(max_bytes=65536, keep=2)); log.tend(1.0)\n"
        "print(log.rotations, log.dropped_bytes)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, log.path], capture_output=True, text=True, check=False
    )
    assert ran.stdout == f"1 {SMALL.max_bytes + 4096}\n", ran.stderr
    assert log.path.stat().st_size == 0


def test_a_pipe_in_the_place_of_any_file_keeps_nobody_waiting(log: ChildLog) -> None:
    """A child can write to the directory; one that waits for the other end of a pipe keeps all logs, or the daemon."""
    prints(log, "x" * SMALL.max_bytes + "\n")
    log.tend(1.0)
    for path in (log.path, index(log.path), log.former(1), index(log.former(1))):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    fresh = ChildLog(log.path, SMALL)
    keeper = LogKeeper(lambda _: log.path, structlog.get_logger())
    keeper.configure({"it": SMALL})
    keeper.append("it", b"y\n", 2.0)
    keeper.tend_all(2.0)
    assert keeper.of("it").dropped_bytes == 2
    assert last_lines(fresh, 10) == []
    assert last_lines(fresh, 10, since=1.0) == []
    assert cause_in_log(log.path) == ""


@pytest.mark.parametrize("kind", ["symbolic link", "hard link"])
@pytest.mark.parametrize("place", ["it.log", "it.log.times", "it.log.new"])
def test_a_link_leads_to_nobody_elses_file(log: ChildLog, tmp_path: Path, place: str, kind: str) -> None:
    """Planted where the log, its index, or the copy of it is: what it leads to is neither written to nor cut."""
    victim, text = tmp_path / "victim", "v" * (1 if place == "it.log.times" else 2 * SMALL.max_bytes)
    victim.write_text(text)
    if place == "it.log.new":
        write(log, "x" * 2 * SMALL.max_bytes)  # as one that writes its log itself
    planted = tmp_path / place
    if kind == "hard link":
        planted.hardlink_to(victim)
    else:
        planted.symlink_to(victim)
    keeper = LogKeeper(lambda _: log.path, structlog.get_logger())
    keeper.configure({"it": SMALL})
    for utc in (1.0, 2.0, 3.0):
        keeper.tend_all(utc)
        keeper.append("it", b"y\n", utc)
    assert victim.read_text() == text


def test_a_log_that_was_linked_elsewhere_goes_on_in_another_file(log: ChildLog, tmp_path: Path) -> None:
    """A backup by hard links is one of its former files from then on, and what it holds stays as it was."""
    prints(log, "one\n")
    log.close()
    (tmp_path / "backup").hardlink_to(log.path)
    prints(log, "two\n")
    log.tend(1.0)
    assert (tmp_path / "backup").read_text() == "one\n"
    assert last_lines(log, 10) == ["one", "two"]
