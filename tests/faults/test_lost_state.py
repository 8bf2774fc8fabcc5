"""The state, its two databases and the anchor: deleted, older, cut, read-only, full; under the daemon and without it.

For each: what is said, that nothing is forwarded meanwhile, and what is lost, by name. The table is that of
docs/ledger.md. Whatever happens, nothing is forwarded that would not be found in the ledger again.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from installed import Installation, installation
from state_harm import (
    ANCHOR,
    CUT,
    DELETED,
    DIRECTORY,
    FULL,
    HARMS,
    JOURNAL,
    LEDGER,
    OLDER,
    READ_ONLY,
    REFUSED,
    RUNNING,
    SMALL,
    TARGETS,
    State,
    assert_nothing_is_forwarded,
    last_record,
    shut,
    small_state,
    some_slow,
)
from turn_scene import Scene, Stub, configured, model_server

from epad.ledger.paths import witness_of

pytestmark = pytest.mark.timeout(300)  # the first test waits for the fixture too; each starts four daemons

DOCS = Path(__file__).parents[2] / "docs/ledger.md"
CELLS = [(target, harm) for target in TARGETS for harm in HARMS]
EVERY_RUN = {
    (LEDGER, FULL),
    (JOURNAL, OLDER),
    (JOURNAL, CUT),
    (ANCHOR, READ_ONLY),
    (DIRECTORY, DELETED),
}
"""One of each store and of each harm; a daemon or two for each of the others takes some minutes more."""
GONE = "records 1 to {last} of the ledger were signed and are gone"
SINCE = "records {next} to {last} of the ledger were signed and are gone"
JOURNALLED = r"is lost \(holds, keys given and revoked, budgets set, money spent, events; a client"
HEADS = "its heads since then are lost, which vouch for the ledger's records"
CHANGED = "malformed; its bytes have changed: .*put the newest checkpoint back .*what came after it is lost"
SHUT = {
    (DIRECTORY, DELETED): f"{GONE}.*state.db is new .*what they had is lost",
    (DIRECTORY, OLDER): SINCE,
    (LEDGER, DELETED): GONE,
    (LEDGER, OLDER): SINCE,
    (JOURNAL, DELETED): f"state.db is new, and the anchor of .*{JOURNALLED}",
    (JOURNAL, OLDER): f"state.db knows of 2 opening.* and the anchor of 4 .*{JOURNALLED}",
    (ANCHOR, DELETED): f"anchor knows of no opening, and state.db of 4 .*{HEADS}",
    (ANCHOR, OLDER): f"anchor knows of 2 opening.*, and state.db of 4 .*{HEADS}",
    (ANCHOR, CUT): f"anchor knows of no opening, and state.db of 4 .*{HEADS}",
}
"""What the next start says, and so what is lost, where it starts with the gateway shut."""

NOT_STARTED = {
    (DIRECTORY, CUT): rf"state\.db: .*{CHANGED}",
    (LEDGER, CUT): rf"ledger\.db: .*{CHANGED}",
    (JOURNAL, CUT): rf"state\.db: .*{CHANGED}",
    (DIRECTORY, READ_ONLY): "state/daemon.lock: Read-only file system",
    (LEDGER, READ_ONLY): r"ledger\.db: attempt to write a readonly database; it must be writable",
    (JOURNAL, READ_ONLY): r"state\.db: attempt to write a readonly database; it must be writable",
    (ANCHOR, READ_ONLY): "anchor/starts: Read-only file system",
    (DIRECTORY, FULL): r"state\.db: .*; free space on its file system",
    (LEDGER, FULL): r"ledger\.db: .*; free space on its file system",
    (JOURNAL, FULL): r"state\.db: .*; free space on its file system",
    (ANCHOR, FULL): "anchor/starts: No space left on device",
}
"""What `epad run` says where it does not start at all; what is read-only or full has lost nothing."""


@dataclass(frozen=True)
class Past:
    """Two moments of one state, after orderly ends, and the model server it knows."""

    stub: Stub
    before: Path
    now: Path
    next_record: int
    last_record: int

    def lay(self, state: Path) -> None:
        """Put the later moment there, with the witness that stands beside it."""
        shutil.copytree(self.now, state, dirs_exist_ok=True)
        shutil.copyfile(witness_of(self.now), witness_of(state))


@pytest.fixture(scope="module")
def past() -> Iterator[Past]:
    """Lived once for all cells: three turns, an end, two more turns, an end."""
    with model_server() as stub, installation() as house:
        scene, records = configured(house, stub, SMALL), []
        before = house.directory / "before"
        for turns in (3, 2):
            scene.start()
            assert [scene.ask() for _ in range(turns)] == [200] * turns
            assert house.stop() == 0  # the last turn's end is written after its answer
            records.append(last_record(house.state))
            if not before.exists():
                shutil.copytree(house.state, before)
        yield Past(stub, before, house.state, records[0] + 1, records[1])


@contextlib.contextmanager
def laid(past: Past, target: str, harm: str) -> Iterator[tuple[Scene, State, Path | None]]:
    """That past, in a directory of its own; for `full` the target is on a small disk."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="epad-")))
        house, disk = Installation(directory), None
        if harm == FULL:
            house.state, disk = stack.enter_context(small_state(directory, target))
        stack.callback(house.clean_up)
        house.runtime = directory / "run"
        runtime = f'[daemon]\nruntime_directory = "{directory}/run"\n'
        scene = configured(house, past.stub, SMALL + runtime)
        past.lay(house.state)
        yield scene, State(house.state, target, past.before), disk


def test_each_cell_has_its_row() -> None:
    """Here and in the docs."""
    assert {*SHUT, *NOT_STARTED} == {*CELLS}
    assert not {*SHUT} & {*NOT_STARTED}
    rows = re.findall(r"^\| (\S.*?) \| (\S.*?) \|", DOCS.read_text(), re.MULTILINE)
    assert [cell for cell in CELLS if cell not in rows] == []


@pytest.mark.parametrize(("target", "harm"), some_slow(CELLS, EVERY_RUN))
def test_under_the_running_daemon(past: Past, target: str, harm: str) -> None:
    """At once, and in words; what can be undone opens the gateway again when it is."""
    with laid(past, target, harm) as (scene, state, disk):
        scene.start()
        assert scene.ask() == 200
        with state.harmed(harm, disk):
            assert_nothing_is_forwarded(scene)
            assert re.search(RUNNING[harm], shut(scene)), shut(scene)
            if target != DIRECTORY:
                assert target in shut(scene)
            assert_nothing_is_forwarded(scene)
        if harm in {READ_ONLY, FULL}:
            scene.house.wait(lambda: scene.ask() == 200, "the gateway to open again")


@pytest.mark.parametrize(("target", "harm"), some_slow(SHUT, EVERY_RUN))
def test_between_two_lives_the_next_is_shut_until_a_person_gives_up_what_is_lost(
    past: Past, target: str, harm: str
) -> None:
    """However often it starts; then turns are taken again, and every budget is spent, in the next life too."""
    with laid(past, target, harm) as (scene, state, disk), state.harmed(harm, disk):
        words = SHUT[target, harm].format(next=past.next_record, last=past.last_record)
        for _ in range(2):
            scene.start()
            assert_nothing_is_forwarded(scene)
            assert re.search(words, shut(scene)), shut(scene)
            assert "epactl ledger accept-loss" in shut(scene)
            scene.house.wait_phase("NORMAL")
            assert scene.ask() in REFUSED
            scene.house.stop()
        scene.start()
        assert scene.house.ctl("ledger", "accept-loss", "--reason", "a test", "--yes").returncode == 0
        scene.read_key()
        assert shut(scene) == ""
        if (target, harm) == (JOURNAL, DELETED):
            assert scene.ask() == 401  # the key went with it
            assert scene.house.ctl("key", "rotate", "c", "--reason", "a test").returncode == 0
            scene.read_key()
        assert scene.ask() == 429
        scene.house.stop()
        scene.start()
        assert scene.ask() == 429
        assert (
            scene.house.ctl("budget", "set", "c", "tokens_per_hour=0", "--reason", "a test").returncode == 0
        )
        assert scene.ask() == 200


@pytest.mark.parametrize(("target", "harm"), some_slow(NOT_STARTED, EVERY_RUN))
def test_between_two_lives_the_next_does_not_start_and_says_why(past: Past, target: str, harm: str) -> None:
    """What is read-only or full has lost nothing: all of it is there once that is over."""
    with laid(past, target, harm) as (scene, state, disk):
        with state.harmed(harm, disk):
            said = scene.house.start_refused()
            assert re.search(NOT_STARTED[target, harm], said), said
        if harm != CUT:
            scene.start()
            assert scene.ask() == 200
            assert scene.house.verify_ledger().returncode == 0


def delete_log(state: Path) -> None:
    (state / "ledger.db-wal").unlink()


def move(state: Path) -> None:
    state.rename(state.with_name("moved"))


def exchange(state: Path) -> None:
    """For a copy of itself: the daemon's files are elsewhere now."""
    state.rename(state.with_name("moved"))
    shutil.copytree(state.with_name("moved"), state, ignore=shutil.ignore_patterns("*.sock"))


def delete_all_but_the_log(state: Path) -> None:
    (state / LEDGER).unlink()


ODD: dict[str, Callable[[Path], None]] = {
    "the ledger's log deleted": delete_log,
    "the ledger deleted, its log not": delete_all_but_the_log,
    "all moved": move,
    "all exchanged": exchange,
}


@pytest.mark.parametrize("harm", ODD)
def test_other_ways_to_lose_them_are_no_better(past: Past, harm: str) -> None:
    with laid(past, DIRECTORY, harm) as (scene, state, _):
        scene.start()
        assert scene.ask() == 200
        ODD[harm](state.path)
        assert_nothing_is_forwarded(scene)
        assert "while it is in use" in shut(scene)


def test_ledger_and_anchor_older_together_are_known_by_the_witness(past: Past) -> None:
    """Each agrees with the other; the copy of the head outside of them knows better."""
    with laid(past, LEDGER, OLDER) as (scene, ledger, _):
        anchor = State(scene.state, ANCHOR, past.before)
        with ledger.harmed(OLDER), anchor.harmed(OLDER):
            scene.start()
            assert_nothing_is_forwarded(scene)
            assert SINCE.format(next=past.next_record, last=past.last_record) in shut(scene)
            assert re.search(HEADS, shut(scene)), shut(scene)
