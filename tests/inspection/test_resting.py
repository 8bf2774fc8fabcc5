"""A store that is just being written is looked at again; what stays broken is damage."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import apsw
import pytest

from epad.inspection import resting
from epad.inspection.baseline import newest_age_seconds
from epad.inspection.inspect import Look, look
from epad.inspection.resting import Patience, is_held_for_writing

LINES = [
    json.dumps({"type": "entity", "name": f"e{n}", "entityType": "x", "observations": ["a"]})
    for n in range(400)
]
WHOLE = ("\n".join(LINES) + "\n").encode()
HALF = len(WHOLE) // 2 + 7
QUICK = Patience(rest_seconds=0.2, limit_seconds=1.2, step_seconds=0.02)

Change = Callable[[Path], Iterator[None]]
"""What a program does to a store; it yields where it may be caught, and the rest is done a moment later."""


def see(path: Path, home: Path, kind: str = "auto") -> Look:
    return look(path, home, kind, 0.05, patience=QUICK)


def rest(path: Path) -> None:
    then = time.time() - 60
    os.utime(path, (then, then))


def truncate_and_write(path: Path) -> Iterator[None]:
    with path.open("wb", buffering=0) as file:
        file.write(WHOLE[:HALF])
        yield
        file.write(WHOLE[HALF:])


def close_between_the_halves(path: Path) -> Iterator[None]:
    path.write_bytes(WHOLE[:HALF])
    yield
    with path.open("ab") as file:
        file.write(WHOLE[HALF:])


def append_half_a_line(path: Path) -> Iterator[None]:
    with path.open("ab", buffering=0) as file:
        file.write(b'{"type": "entity", "na')
        yield
        file.write(b'me": "last", "entityType": "x", "observations": []}\n')


def write_over_without_truncating(path: Path) -> Iterator[None]:
    other = WHOLE.replace(b'"e1', b'"entity-1')
    with path.open("r+b", buffering=0) as file:
        file.write(other[:HALF])
        yield
        file.write(other[HALF:])


def rename_aside_first(path: Path) -> Iterator[None]:
    aside = path.with_suffix(".old")
    path.rename(aside)
    yield
    aside.rename(path)


def remove_and_write(path: Path) -> Iterator[None]:
    path.unlink()
    yield
    new = path.with_suffix(".new")
    new.write_bytes(WHOLE)
    new.rename(path)


def move_the_directory(path: Path) -> Iterator[None]:
    aside = path.parent.with_name("aside")
    path.parent.rename(aside)
    yield
    aside.rename(path.parent)


MEMORY_CHANGES: list[Change] = [
    truncate_and_write,
    close_between_the_halves,
    append_half_a_line,
    write_over_without_truncating,
    rename_aside_first,
    remove_and_write,
    move_the_directory,
]


class Moments:
    """The time of `epad.inspection.resting`, which passes only where it waits; a writer goes on at its moments."""

    def __init__(self, change: Iterator[None], *moments: float) -> None:
        self._change = change
        self._moments = list(moments)
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds
        while self._moments and self._now >= self._moments[0]:
            del self._moments[0]
            next(self._change, None)

    def age_of(self, path: Path) -> float:
        """How old a file says that it is, without what has passed since the test began."""
        age = newest_age_seconds(path)
        return age if age > 30 else 0.0

    def look(self, look_at: Callable[[], Look]) -> Look:
        with (
            mock.patch.object(resting, "time", self),
            mock.patch.object(resting, "newest_age_seconds", self.age_of),
        ):
            return look_at()


def caught(change: Iterator[None], then_after: float, look_at: Callable[[], Look]) -> Look:
    """Look while a program is in the middle of its work, which it ends a moment later."""
    next(change)
    return Moments(change, then_after).look(look_at)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "memory.jsonl"
    path.parent.mkdir()
    path.write_bytes(WHOLE)
    rest(path)
    assert see(path, tmp_path / "home").is_sound
    return path


@pytest.mark.parametrize("change", MEMORY_CHANGES)
def test_a_memory_file_caught_in_mid_write_is_no_damage(memory: Path, tmp_path: Path, change: Change) -> None:
    """It is looked at again a moment later."""
    seen = caught(change(memory), 0.1, lambda: see(memory, tmp_path / "home"))
    assert (seen.faults, seen.error) == ((), "")


@pytest.mark.parametrize("change", [truncate_and_write, append_half_a_line, write_over_without_truncating])
def test_a_writer_that_stalls_with_the_file_open_is_waited_for(
    memory: Path, tmp_path: Path, change: Change
) -> None:
    """Longer than a file that nobody holds: it is not done."""
    seen = caught(change(memory), 0.6, lambda: see(memory, tmp_path / "home"))
    assert (seen.faults, seen.error) == ((), "")


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda path: path.write_bytes(WHOLE[:HALF]), "rule"),
        (lambda path: path.write_bytes(WHOLE[: len(WHOLE) // 2]), "shrink"),
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.rename(path.with_suffix(".x")), "missing"),
    ],
)
def test_what_stays_broken_is_damage(
    memory: Path, tmp_path: Path, damage: Callable[[Path], object], kind: str
) -> None:
    """Whether it was written long ago or just now."""
    damage(memory)
    assert kind in {kind for kind, _ in see(memory, tmp_path / "home").faults}


def test_what_stays_broken_in_somebodys_hands_is_damage_too(memory: Path, tmp_path: Path) -> None:
    """A program that holds it open and does nothing hides it for a bounded time."""
    with memory.open("wb", buffering=0) as file:
        file.write(WHOLE[:HALF])
        assert is_held_for_writing(memory)
        assert see(memory, tmp_path / "home").faults
    assert not is_held_for_writing(memory)


def test_a_writer_that_never_rests_makes_it_unknown(memory: Path, tmp_path: Path) -> None:
    """Not damaged, and not sound either: a person reads that it cannot be judged."""
    done = threading.Event()

    def rewrite() -> None:
        while not done.wait(0.01):
            memory.write_bytes(WHOLE[:HALF])

    writer = threading.Thread(target=rewrite)
    memory.write_bytes(WHOLE[:HALF])
    writer.start()
    seen = see(memory, tmp_path / "home")
    done.set()
    writer.join()
    assert (seen.faults, seen.is_sound) == ((), False)
    assert "never rests" in seen.error
    assert see(memory, tmp_path / "home").faults  # and as soon as it rests, it is what it is


def test_a_file_moved_here_with_its_old_time_is_not_older_for_it(memory: Path, tmp_path: Path) -> None:
    """A synced file brings its time along."""

    def sync(path: Path) -> Iterator[None]:
        for part in (WHOLE[:HALF], WHOLE):
            new = path.with_suffix(".part")
            new.write_bytes(part)
            rest(new)
            new.rename(path)
            yield

    path = memory.with_name("other.jsonl")
    path.write_bytes(WHOLE)
    assert see(path, tmp_path / "other").is_sound
    change = sync(path)
    path.unlink()
    seen = Moments(change, 0.1, 0.2).look(lambda: see(path, tmp_path / "other"))
    assert (seen.faults, seen.error) == ((), "")


def test_a_disk_that_is_not_mounted_is_unknown(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file went with the disk that it is on."""
    assert see(memory, tmp_path / "home").how == "at rest"
    memory.unlink()
    monkeypatch.setattr("epad.inspection.inspect.is_on_its_disk", lambda *_: False)
    seen = see(memory, tmp_path / "home")
    assert seen.faults == ()
    assert "mount it" in seen.error


# Databases.


def make_database(path: Path, rows: int = 4000) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
    with connection:
        connection.executemany(
            "INSERT INTO t (text) VALUES (?)", [(f"{n} of many rows",) for n in range(rows)]
        )
    connection.close()


@pytest.mark.parametrize("truncating", [True, False])
def test_a_database_that_is_copied_over_is_no_damage(tmp_path: Path, truncating: bool) -> None:
    """`cp new.db store.db`, or rsync in place: for a while there are pages of both."""
    path, new = tmp_path / "store.db", tmp_path / "new.db"
    make_database(path)
    make_database(new, 4100)
    rest(path)
    assert see(path, tmp_path / "home").is_sound
    data = new.read_bytes()
    at = len(data) // 2 + 100

    def copy_over() -> Iterator[None]:
        with path.open("wb" if truncating else "r+b", buffering=0) as file:
            file.write(data[:at])
            yield
            file.write(data[at:])

    seen = caught(copy_over(), 0.15, lambda: see(path, tmp_path / "home"))
    assert (seen.faults, seen.error) == ((), "")


def test_a_database_that_is_emptied_and_filled_again_is_no_loss(tmp_path: Path) -> None:
    """An import that commits in between."""
    path = tmp_path / "store.db"
    make_database(path)
    assert see(path, tmp_path / "home").is_sound
    connection = apsw.Connection(str(path))
    rows = connection.execute("SELECT * FROM t").fetchall()

    def refill() -> Iterator[None]:
        connection.execute("DELETE FROM t")
        yield
        with connection:
            connection.executemany("INSERT INTO t VALUES (?, ?)", rows)

    seen = caught(refill(), 0.1, lambda: see(path, tmp_path / "home"))
    connection.close()
    assert (seen.faults, seen.error) == ((), "")


def test_damage_in_a_database_that_commits_all_the_time_is_found(tmp_path: Path) -> None:
    """Each copy is of one commit: the same fault in three of them is no half of anything."""
    path = tmp_path / "store.db"
    make_database(path)
    connection = apsw.Connection(str(path))
    connection.execute(
        "CREATE TABLE entities (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO entities VALUES (1, 'a')"
    )
    connection.execute("CREATE TABLE observations (entity_id INTEGER, content TEXT)")
    rest(path)
    assert see(path, tmp_path / "home").is_sound
    done = threading.Event()

    def write_on() -> None:
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(5_000)
        while not done.wait(0.05):
            connection.execute("INSERT INTO t (text) VALUES ('another row')")
        connection.close()

    connection.execute("INSERT INTO observations VALUES (99, 'of nobody')")
    connection.close()
    writer = threading.Thread(target=write_on)
    writer.start()
    seen = see(path, tmp_path / "home")
    done.set()
    writer.join()
    assert {kind for kind, _ in seen.faults} == {"rule"}


def test_a_loss_that_is_being_made_good_is_not_told(tmp_path: Path) -> None:
    """It is less with every commit, so it is not the same fault."""
    path = tmp_path / "store.db"
    make_database(path)
    assert see(path, tmp_path / "home").is_sound
    done = threading.Event()
    connection = apsw.Connection(str(path))
    connection.execute("DELETE FROM t")
    connection.close()

    def refill() -> None:
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(5_000)
        while not done.wait(0.05):
            connection.execute("INSERT INTO t (text) VALUES ('another row')")
        connection.close()

    writer = threading.Thread(target=refill)
    writer.start()
    seen = see(path, tmp_path / "home")
    done.set()
    writer.join()
    assert (seen.faults, "never rests" in seen.error) == ((), True)
