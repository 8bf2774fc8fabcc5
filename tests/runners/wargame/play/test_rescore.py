"""Stored replies are judged again without a question; nothing changes unless the parser or the text did."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from wargame_world import counted, play, world

from runners.wargame.cli import main
from runners.wargame.play.rescore import rescore
from runners.wargame.store import Store


@pytest.mark.usefixtures("virtual_time")
async def test_judging_again_changes_nothing_and_asks_nobody(tmp_path: Path) -> None:
    """The no-op control of the scoring: the same outcomes, votes and rates to the last digit."""
    async with world() as served:
        before = await play(served, tmp_path / "w.db", rounds=20)
        asked = len(served.asked)
        store = Store(tmp_path / "w.db")
        run = store.run()
        assert run is not None
        assert rescore(store, run) == []
        store.close()
        assert len(served.asked) == asked
    after = counted(tmp_path / "w.db")
    assert after.swarm == before.swarm
    assert after.votes == before.votes
    assert after.analysis == before.analysis


@pytest.mark.usefixtures("virtual_time")
async def test_a_reply_that_reads_otherwise_changes_its_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if the parser had been mended: all five replies of a round become prose, and the round is void."""
    path = tmp_path / "w.db"
    async with world() as served:
        await play(served, path, rounds=6)
    connection = apsw.Connection(str(path))
    connection.execute(
        "UPDATE call SET reply = 'This is not an attack.' WHERE idx = 3 AND purpose NOT LIKE 'att%'"
    )
    connection.close()
    assert main(["rescore", "--store", str(path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("#3: ")
    assert "-> void:quorum" in said
    assert "1 rounds changed" in said
    assert counted(path).states == {"scored": 5, "void": 1}
