"""One look at a store that other programs write: what rots is found, what is written is not blamed."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import apsw
import pytest
from datastore_world import Store

from epad.inspection import inspect as module
from epad.inspection.baseline import GOOD_FILE, SUSPECT_FILE, load_baseline
from epad.inspection.inspect import Look, copy_faults, look

MakeStore = Callable[..., Store]


def see(store: Store | Path, home: Path, *, accept: bool = False) -> Look:
    path = store.path if isinstance(store, Store) else store
    return look(path, home, "auto", 0.05, accept=accept)


def kinds(seen: Look) -> set[str]:
    assert not seen.error
    return {kind for kind, _ in seen.faults}


def reopen(store: Store) -> apsw.Connection:
    store.connection = apsw.Connection(str(store.path))
    return store.connection


@pytest.mark.parametrize("seed", range(25))
def test_a_bit_that_flips_at_rest_is_found_wherever_it_is(
    make_store: MakeStore, tmp_path: Path, seed: int
) -> None:
    """Text, numbers, pointers, unused space: the file has changed and nobody has written to it."""
    store = make_store(seed=seed)
    store.rest()
    assert see(store, tmp_path / "home") == Look("copy", (), 120 * 5, store.path.stat().st_size)
    assert see(store, tmp_path / "home").how == "at rest"
    store.flip(random.Random(seed).randrange(store.path.stat().st_size * 8))
    for _ in range(2):  # and it is not forgotten
        assert kinds(see(store, tmp_path / "home")) == {"rot"}


def test_honest_use_raises_nothing(make_store: MakeStore, tmp_path: Path) -> None:
    """Adding, counting up, removing, writing anew, at rest in between."""
    store = make_store()
    choose = random.Random(4)
    for _ in range(40):
        if choose.random() < 0.6:
            store.grow(choose.randint(1, 4))
        if choose.random() < 0.6:
            store.use()
        if choose.random() < 0.3:
            store.rest()
            reopen(store)
        seen = see(store, tmp_path / "home")
        assert (seen.faults, seen.error) == ((), "")


def test_a_bit_that_flips_in_a_text_is_found_though_the_program_writes_on(
    make_store: MakeStore, tmp_path: Path
) -> None:
    """The row is held against the last sound copy of it."""
    store = make_store()
    store.connection.execute("INSERT INTO observations(entity_id, content) VALUES (1, 'zebras in the night')")
    store.rest()
    see(store, tmp_path / "home")
    at = store.path.read_bytes().index(b"zebras")
    store.flip(8 * at + 1)
    reopen(store)
    store.grow(3)
    seen = see(store, tmp_path / "home")
    assert kinds(seen) == {"flip"}
    assert "differs in one bit" in seen.faults[0][1]
    assert (tmp_path / "home" / SUSPECT_FILE).exists()


def test_the_last_sound_copy_is_kept_while_the_store_is_damaged(
    make_store: MakeStore, tmp_path: Path
) -> None:
    """It is what a person goes back to, and what heals the verdict."""
    store = make_store()
    store.rest()
    see(store, tmp_path / "home")
    good = (tmp_path / "home" / GOOD_FILE).read_bytes()
    store.path.write_bytes(b"SQLite format 3\x00" + bytes(9000))
    assert kinds(see(store, tmp_path / "home")) == {"structure"}
    assert (tmp_path / "home" / GOOD_FILE).read_bytes() == good
    store.path.write_bytes(good)
    assert kinds(see(store, tmp_path / "home")) == set()


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        (
            "INSERT INTO relations(from_entity, to_entity) VALUES (1, 99999)",
            "relations.to_entity names an entity",
        ),
        (
            "INSERT INTO observations(entity_id, content) VALUES (99999, 'x')",
            "observations.entity_id names an entity",
        ),
        ("UPDATE entities SET created_at = '2199-01-01' WHERE id = 3", "entities.created_at ahead of now"),
    ],
)
def test_a_rule_that_held_and_is_broken_is_told(
    make_store: MakeStore, tmp_path: Path, statement: str, rule: str
) -> None:
    """Dangling relations, orphans, times to come; where a store never kept a rule, it is not its rule."""
    store = make_store()
    see(store, tmp_path / "home")
    store.connection.execute(statement)
    seen = see(store, tmp_path / "home")
    assert kinds(seen) == {"rule"}
    assert rule in " ".join(detail for _, detail in seen.faults)
    assert kinds(see(store, tmp_path / "fresh")) == set()
    assert kinds(see(store, tmp_path / "fresh")) == set()


def test_two_entities_of_one_name_are_told(tmp_path: Path) -> None:
    """In a store whose schema does not forbid them."""
    connection = apsw.Connection(str(tmp_path / "m.db"))
    connection.execute("CREATE TABLE entity(name TEXT, type TEXT); INSERT INTO entity VALUES ('a', 'x')")
    assert kinds(see(tmp_path / "m.db", tmp_path / "home")) == set()
    connection.execute("INSERT INTO entity VALUES ('a', 'x')")
    assert kinds(see(tmp_path / "m.db", tmp_path / "home")) == {"rule"}
    connection.close()


def test_a_sudden_shrink_is_told_until_a_person_accepts_it(make_store: MakeStore, tmp_path: Path) -> None:
    """A great clean-up and a great loss look the same: one of them is somebody's word away."""
    store = make_store()
    see(store, tmp_path / "home")
    store.connection.execute("DELETE FROM observations WHERE id > 300")
    for _ in range(2):
        seen = see(store, tmp_path / "home")
        assert seen.faults == (("shrink", "observations had 360 rows and has 300"),)
    assert kinds(see(store, tmp_path / "home", accept=True)) == set()
    assert kinds(see(store, tmp_path / "home")) == set()


def test_a_store_that_is_gone_is_damage_and_one_that_never_was_is_unknown(
    make_store: MakeStore, tmp_path: Path
) -> None:
    """Not yet there is no alarm."""
    assert see(tmp_path / "later.db", tmp_path / "home").error.endswith("no such file")
    store = make_store("later.db")
    see(store, tmp_path / "home")
    store.close()
    store.path.unlink()
    assert kinds(see(store, tmp_path / "home")) == {"missing"}


def test_a_locked_store_is_unknown_not_damaged(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds it may have good reasons."""
    monkeypatch.setattr("epad.copying.sqlite_copy.BUSY_MILLISECONDS", 10)
    store = make_store()
    store.connection.execute("BEGIN EXCLUSIVE")
    seen = see(store, tmp_path / "home")
    assert "locked" in seen.error
    assert not seen.faults


def test_our_own_copy_that_rots_accuses_nobody(make_store: MakeStore, tmp_path: Path) -> None:
    """It is made anew, and that is said."""
    store = make_store()
    see(store, tmp_path / "home")
    good = tmp_path / "home" / GOOD_FILE
    data = bytearray(good.read_bytes())
    data[len(data) // 2] ^= 4
    good.write_bytes(data)
    seen = see(store, tmp_path / "home")
    assert not seen.faults
    assert "was damaged itself" in seen.note


@pytest.mark.parametrize("bit", range(0, 4000, 333))
def test_a_flipped_bit_in_our_own_baseline_makes_it_none(
    make_store: MakeStore, tmp_path: Path, bit: int
) -> None:
    """No verdict rests on it."""
    store = make_store()
    see(store, tmp_path / "home")
    place = tmp_path / "home" / "baseline.json"
    data = bytearray(place.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    place.write_bytes(data)
    assert load_baseline(tmp_path / "home") is None
    assert not see(store, tmp_path / "home").faults


def test_a_store_written_just_now_is_not_taken_to_be_at_rest(make_store: MakeStore, tmp_path: Path) -> None:
    """Two writes within a tick of the file system's clock look like one."""
    store = make_store()
    see(store, tmp_path / "home")
    baseline = load_baseline(tmp_path / "home")
    assert baseline is not None
    assert baseline.signature == ""


def test_a_clock_set_back_makes_no_time_ahead(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that wakes up in 1970 accuses nobody of writing in the future."""
    store = make_store()
    see(store, tmp_path / "home")
    store.grow(1)

    class Then(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Self:
            return cls(1970, 1, 2, tzinfo=UTC)

    monkeypatch.setattr(module, "datetime", Then)
    monkeypatch.setattr(time, "time_ns", lambda: 86_400_000_000_000)
    assert kinds(see(store, tmp_path / "home")) == set()


def test_a_checkpoints_copy_is_held_against_the_last_sound_one(make_store: MakeStore, tmp_path: Path) -> None:
    """Without a baseline there is nothing to say; with one, what is wrong is named."""
    store = make_store()
    assert list(copy_faults(store.path, tmp_path / "home")) == []
    see(store, tmp_path / "home")
    assert list(copy_faults(store.path, tmp_path / "home")) == []
    store.connection.execute("DELETE FROM observations WHERE id > 100")
    store.close()
    assert list(copy_faults(store.path, tmp_path / "home")) == [
        "shrink: observations had 360 rows and has 100"
    ]


# The JSON-lines memory file.


def memory_lines(entities: int) -> list[str]:
    lines = [
        json.dumps(
            {
                "type": "entity",
                "name": f"e{n}",
                "entityType": "thing",
                "observations": [f"says little thing {n}"],
            }
        )
        for n in range(entities)
    ]
    return lines + [
        json.dumps({"type": "relation", "from": f"e{n}", "to": "e0", "relationType": "knows"})
        for n in range(entities)
    ]


def write(path: Path, lines: list[str], *, age_seconds: float = 60.0) -> None:
    path.write_text("\n".join(lines) + "\n")
    then = time.time() - age_seconds
    os.utime(path, (then, then))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda lines: [*lines[:3], lines[3][:-4], *lines[4:]], "rule"),
        (lambda lines: [*lines, lines[2]], "rule"),
        (lambda lines: lines[1:], "rule"),
        (lambda lines: [line for line in lines if '"relation"' not in line], "shrink"),
        (lambda lines: [*lines[:5], lines[5].replace("little", "lit|le"), *lines[6:]], "flip"),
    ],
    ids=["torn line", "entity twice", "entity gone", "relations gone", "one bit"],
)
def test_a_damaged_memory_file_is_told(
    tmp_path: Path, change: Callable[[list[str]], list[str]], kind: str
) -> None:
    """One bad line stops every tool of a memory server at its start: it is better known before."""
    path = tmp_path / "memory.jsonl"
    lines = memory_lines(40)
    write(path, lines)
    assert kinds(see(path, tmp_path / "home")) == set()
    write(path, change(lines), age_seconds=30.0)
    assert kind in kinds(see(path, tmp_path / "home"))


def test_a_memory_file_in_honest_use_raises_nothing(tmp_path: Path) -> None:
    """It grows, and texts are said anew."""
    path = tmp_path / "memory.jsonl"
    for number in range(40, 50):
        lines = memory_lines(number)
        lines[4] = lines[4].replace("says little", f"now says {'more ' * (number - 39)}")
        write(path, lines, age_seconds=100.0 - number)
        assert kinds(see(path, tmp_path / "home")) == set()
