"""What lies beside the stores: SQLite's logs and indexes, segments, keys, the lock; deleted, older, cut, read-only.

What a log has is nowhere else, so its loss is the store's: nothing is forwarded. Segments and keys hold nothing that is
lost with them, so turns go on. Events and recordings are tables of `state.db` (tests/faults/test_lost_state.py). The
tables are those of docs/ledger.md.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from gateway_load import Books
from installed import Installation, installation
from state_harm import (
    CUT,
    DELETED,
    JOURNAL,
    LEDGER,
    OLDER,
    READ_ONLY,
    RUNNING,
    SMALL,
    State,
    assert_nothing_is_forwarded,
    last_record,
    shut,
    some_slow,
)
from turn_scene import Scene, Stub, configured, model_server

from epad.ledger.paths import witness_of
from epad.ledger.segment import segment_paths
from epad.storage.state_lock import LOCK_FILE

pytestmark = pytest.mark.timeout(300)  # the first test waits for the fixture too

DOCS = Path(__file__).parents[2] / "docs/ledger.md"
LEDGER_LOG, JOURNAL_LOG = LOGS = (f"{LEDGER}-wal", f"{JOURNAL}-wal")
INDEXES = (f"{LEDGER}-shm", f"{JOURNAL}-shm")
SEGMENTS, KEYS = "segments", "keys"
QUICK_SEALS = f"{SMALL}\n[ledger]\nseal_seconds = 1.0\n"

EVERY_RUN = {(LEDGER_LOG, CUT), (JOURNAL_LOG, DELETED), (INDEXES[0], CUT), (SEGMENTS, DELETED)}
UNDER_A_DAEMON = [(log, harm) for log in LOGS for harm in (DELETED, OLDER, CUT, READ_ONLY)]
AFTER_A_KILL = {
    (LEDGER_LOG, DELETED): "records {first} to {last} of the ledger were signed and are gone",
    (LEDGER_LOG, OLDER): r"records \d+ to {last} of the ledger were signed and are gone",
    (LEDGER_LOG, CUT): r"records \d+ to {last} of the ledger were signed and are gone",
    (JOURNAL_LOG, DELETED): "state.db knows of 2 opening.* and the anchor of \\d ",
}
"""What the next start says. Where a later part of `state.db-wal` alone is missing, no count tells (docs/ledger.md)."""

SAID_OF_SEGMENTS = {
    DELETED: r"00000001\.seg is missing",
    OLDER: r"0000000\d\.seg is missing",
    CUT: r"00000001\.seg",
}
# Every file that a state directory may have, and whose row it is.
ROWS = {
    **{name: name for name in (LEDGER, JOURNAL, *LOGS, *INDEXES, SEGMENTS, KEYS, "anchor", "losses.json")},
    LOCK_FILE: LOCK_FILE,
    "format.json": "format.json",
    "cells": "cells",  # tests/e2e/test_confined.py
    "vault": "vault",  # tests/runners/vault/test_damage.py
    "results": "results",  # tests/tools/test_results.py
    "undo": "undo",  # tests/tools/test_undo_store.py
    **dict.fromkeys(("run", "lifeboat", "logs", "subsystems", "checkpoints"), "made again by the next start"),
}


@dataclass(frozen=True)
class Killed:
    """A state as `kill -9` leaves it, with the logs; and as it was a segment before."""

    stub: Stub
    before: Path
    now: Path
    first_record: int
    last_record: int


def head(state: Path) -> int:
    """The newest record that a signed head speaks of."""
    return int((state / "anchor/head").read_text().split("\n")[1])


def all_are_closed(state: Path) -> bool:
    books = Books.read(state / LEDGER)
    return books.opened.keys() <= books.closings.keys()


def seal_another(scene: Scene) -> None:
    """Ask until there is another segment: a seal comes with a record."""
    before = len(segment_paths(scene.state / SEGMENTS))
    scene.house.wait(
        lambda: scene.ask() == 200 and len(segment_paths(scene.state / SEGMENTS)) > before, "another segment"
    )


@pytest.fixture(scope="module")
def killed() -> Iterator[Killed]:
    """Two lives, the second of which ends by `kill -9` once a head has all its records."""
    with model_server() as stub, installation() as house:
        scene = configured(house, stub, QUICK_SEALS)
        scene.start()
        assert scene.ask() == 200
        assert house.stop() == 0
        first, before = head(house.state) + 1, house.directory / "before"
        scene.start()
        ignored = shutil.ignore_patterns("*.sock")
        seal_another(scene)
        shutil.copytree(house.state, before, ignore=ignored)
        seal_another(scene)
        # One that is open when the daemon dies is charged with all that it may cost, and the budget is spent.
        house.wait(lambda: all_are_closed(house.state), "the newest turn's end")
        house.wait(lambda: head(house.state) >= last_record(house.state), "a head of the newest turn")
        house.kill()
        now = house.directory / "now"
        shutil.copytree(house.state, now, ignore=ignored)
        shutil.copyfile(witness_of(house.state), witness_of(now))
        yield Killed(stub, before, now, first, head(now))


@contextlib.contextmanager
def laid(killed: Killed, target: str) -> Iterator[tuple[Scene, State]]:
    """That state, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="epad-") as name:
        house = Installation(Path(name))
        try:
            house.runtime = house.directory / "run"
            runtime = f'[daemon]\nruntime_directory = "{house.runtime}"\n'
            shutil.copytree(killed.now, house.state)
            shutil.copyfile(witness_of(killed.now), witness_of(house.state))
            yield (
                configured(house, killed.stub, QUICK_SEALS + runtime),
                State(house.state, target, killed.before),
            )
        finally:
            house.clean_up()


def test_each_cell_has_its_row_in_the_docs() -> None:
    rows = set(re.findall(r"^\| (\S.*?) \| (\S.*?) \|", DOCS.read_text(), re.MULTILINE))
    cells = {(log, harm) for log, harm in [*UNDER_A_DAEMON, *AFTER_A_KILL]}
    cells |= {(index, harm) for index in INDEXES for harm in (DELETED, CUT)}
    cells |= {(SEGMENTS, harm) for harm in SAID_OF_SEGMENTS} | {(KEYS, harm) for harm in (DELETED, CUT)}
    cells |= {(LOCK_FILE, DELETED)}
    assert sorted(cells - rows) == []


def test_every_file_of_a_state_has_its_row(killed: Killed) -> None:
    """A new one cannot be forgotten."""
    assert {path.name for path in killed.now.iterdir()} - ROWS.keys() == set()


@pytest.mark.parametrize(("log", "harm"), some_slow(UNDER_A_DAEMON, EVERY_RUN))
def test_a_log_that_is_harmed_under_the_daemon_shuts_the_gateway(killed: Killed, log: str, harm: str) -> None:
    """At once, and in words: it alone has the newest records."""
    with laid(killed, log) as (scene, state):
        scene.start()
        assert scene.ask() == 200
        with state.harmed(harm):
            assert_nothing_is_forwarded(scene)
            assert re.search(RUNNING[harm], shut(scene)), shut(scene)
            assert log in shut(scene)
        if harm == READ_ONLY:
            scene.house.wait(lambda: scene.ask() == 200, "the gateway to open again")


@pytest.mark.parametrize(("log", "harm"), some_slow(AFTER_A_KILL, EVERY_RUN))
def test_a_log_that_is_lost_after_a_kill_is_missed_by_the_next_start(
    killed: Killed, log: str, harm: str
) -> None:
    """As its store would be: shut until a person gives up what was in it."""
    with laid(killed, log) as (scene, state), state.harmed(harm):
        scene.start()
        assert_nothing_is_forwarded(scene)
        words = AFTER_A_KILL[log, harm].format(first=killed.first_record, last=killed.last_record)
        assert re.search(words, shut(scene)), shut(scene)
        assert "epactl ledger accept-loss" in shut(scene)


@pytest.mark.parametrize(
    ("index", "harm"), some_slow([(i, h) for i in INDEXES for h in (DELETED, CUT)], EVERY_RUN)
)
def test_an_index_holds_nothing_that_its_log_has_not(killed: Killed, index: str, harm: str) -> None:
    """Deleted, it goes unmissed; cut, it ends the daemon (SIGBUS), and the next start makes it anew."""
    with laid(killed, index) as (scene, state):
        scene.start()
        assert scene.ask() == 200
        before, asked = scene.stub.turns, 0
        with state.harmed(harm):
            if harm == CUT:
                with contextlib.suppress(OSError):
                    while asked < 50:
                        asked += scene.ask() == 200
                assert scene.house.process is not None
                assert scene.house.process.wait(60) == -signal.SIGBUS
                assert scene.stub.turns - before <= asked + 1
            else:
                assert [scene.ask() for _ in range(4)] == [200] * 4
                scene.house.kill()
        scene.start()
        assert scene.ask() == 200
        assert scene.house.stop() == 0
        assert scene.house.verify_ledger().returncode == 0


@pytest.mark.parametrize(("target", "harm"), some_slow([(SEGMENTS, h) for h in SAID_OF_SEGMENTS], EVERY_RUN))
def test_segments_are_a_second_copy(killed: Killed, target: str, harm: str) -> None:
    """Turns go on and are sealed; the records are whole, and `--segments` says which copy is not."""
    with laid(killed, target) as (scene, state):
        scene.start()
        with state.harmed(harm):
            assert [scene.ask() for _ in range(3)] == [200] * 3
            scene.house.stop()
            scene.start()
            assert scene.ask() == 200
            assert scene.house.stop() == 0
            assert scene.house.verify_ledger().returncode == 0
            found = scene.house.ctl("ledger", "verify", "--segments", "--state", str(scene.state))
            assert found.returncode != 0
            assert re.search(SAID_OF_SEGMENTS[harm], found.stdout + found.stderr), found.stdout


@pytest.mark.slow
def test_keys_that_are_deleted_are_made_anew_and_old_heads_are_still_believed(killed: Killed) -> None:
    """Under the daemon nothing changes; what was signed is checked by the anchor's public keys."""
    with laid(killed, KEYS) as (scene, state):
        scene.start()
        former = scene.key
        with state.harmed(DELETED):
            assert [scene.ask() for _ in range(2)] == [200] * 2
            scene.house.kill()
        scene.start()
        assert scene.key not in {"", former}
        assert scene.ask() == 200
        assert scene.house.stop() == 0
        assert scene.house.verify_ledger().returncode == 0


@pytest.mark.slow
def test_a_key_that_is_cut_is_named_and_nothing_is_signed_by_another(killed: Killed) -> None:
    with laid(killed, KEYS) as (scene, state), state.harmed(CUT):
        assert re.search(r"keys/ledger\.key: .*restore it, or move it away", scene.house.start_refused())


@pytest.mark.slow
def test_a_second_daemon_is_kept_out_though_the_lock_was_deleted(killed: Killed) -> None:
    """Two writers of one ledger would each count budgets of their own."""
    with laid(killed, LOCK_FILE) as (scene, state):
        scene.start()
        with state.harmed(DELETED):
            assert "another epad runs on this state" in scene.house.start_refused()
            assert scene.ask() == 200
