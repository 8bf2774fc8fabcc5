"""A round is one transaction, written once; a store belongs to one experiment and one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runners.wargame.locking import StoreBusyError, StoreError, is_locked
from runners.wargame.outcomes import FailReason, Label, RoundOutcome, RoundState
from runners.wargame.play.round import RoundRecord
from runners.wargame.scenario.library import load_grammar
from runners.wargame.settings import Settings
from runners.wargame.store import SettingsMismatchError, Store

DESCRIPTION = Settings().description()
CARD = load_grammar().card(1, 0, ("evaluate",))
SCORED = RoundRecord(CARD, RoundOutcome.scored(Label.ATTACK, flagged=True), turns=("one", "two", "three"))
FAILED = RoundRecord(CARD, RoundOutcome.failed(FailReason.INFRASTRUCTURE))


@pytest.fixture
def store(tmp_path: Path):
    opened = Store(tmp_path / "w.db")
    yield opened
    opened.close()


def test_a_final_round_is_never_written_again(store: Store) -> None:
    """Scoring twice is an error, not an update; a failed round may be replaced."""
    run = store.begin(DESCRIPTION, "embedded", "http://x/v1", 10)
    store.commit(run.run_id, FAILED, attempt=1)
    store.commit(run.run_id, SCORED, attempt=2)
    assert store.attempts(run.run_id) == {0: (RoundState.SCORED, 2)}
    for again in (SCORED, FAILED):
        with pytest.raises(StoreError, match="round 0 is scored already"):
            store.commit(run.run_id, again, attempt=3)
    assert store.turns(run.run_id, 0) == ("one", "two", "three")


def test_another_experiment_is_refused_and_the_difference_named(store: Store) -> None:
    """Resuming with another seed or prompt would mix two experiments."""
    first = store.begin(DESCRIPTION, "embedded", "http://x/v1", 10)
    other = replace(Settings(), seed=2, quorum=4).description()
    with pytest.raises(SettingsMismatchError, match=r"quorum: 3 -> 4; seed: 1 -> 2"):
        store.begin(other, "embedded", "http://x/v1", 10)
    again = store.begin(DESCRIPTION, "embedded", "http://moved/v1", 20)
    assert (again.run_id, again.wanted, again.base_url) == (first.run_id, 20, "http://moved/v1")


def test_embedded_and_llm_results_are_never_mixed(store: Store) -> None:
    """The same names behind an endpoint that has become something else are another experiment too."""
    store.begin(DESCRIPTION, "embedded", "http://x/v1", 10)
    with pytest.raises(SettingsMismatchError, match="engine embedded"):
        store.begin(DESCRIPTION, "llm", "http://x/v1", 10)


def test_two_processes_cannot_write_one_store(store: Store) -> None:
    """The second is told which file is taken; the lock goes with the first."""
    with pytest.raises(StoreBusyError, match=r"w\.db: another run"):
        Store(store.path)
    assert is_locked(store.path)
    store.close()
    assert not is_locked(store.path)
    Store(store.path).close()


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    """The message names the file, and the file is left as it was."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 100)
    with pytest.raises(StoreError, match=r"notes\.txt"):
        Store(path)
    assert path.read_text().startswith("not a database")
    assert not is_locked(path)
