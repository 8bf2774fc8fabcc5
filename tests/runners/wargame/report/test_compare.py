"""Two runs are called better or worse only where one thing changed and the same rounds were played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wargame_world import Fault, content, counted, play, world

from runners.wargame.cli import main
from runners.wargame.report.compare import Paired, compare
from runners.wargame.report.count import Report
from runners.wargame.roles import ROLES
from runners.wargame.settings import Settings

BASE = Settings(seed=3)


async def played(path: Path, settings: Settings = BASE, faults: Mapping[str, Fault] | None = None) -> Report:
    async with world() as served:
        served.faults = dict(faults or {})
        await play(served, path, rounds=60, settings=settings)
    return counted(path)


def weighted(**weights: float) -> Settings:
    return replace(BASE, roles=tuple(replace(r, weight=weights.get(r.name, 1.0)) for r in ROLES))


@pytest.mark.usefixtures("virtual_time")
async def test_the_same_run_twice_shows_no_difference(tmp_path: Path) -> None:
    """A no-op control reproduces the baseline: no discordant round at all."""
    found = compare(await played(tmp_path / "a.db"), await played(tmp_path / "b.db"))
    assert found.differences == []
    assert (found.catch.only_first, found.catch.only_second) == (0, 0)
    assert found.catch.rounds > 0
    assert "no difference shown" in found.verdict


@pytest.mark.usefixtures("virtual_time")
async def test_one_changed_defender_may_be_credited_two_may_not(tmp_path: Path) -> None:
    """The keys that differ are listed, and more than one forbids every word of better or worse."""
    first = await played(tmp_path / "a.db")
    one = compare(first, await played(tmp_path / "b.db", weighted(sentinel=3.0)))
    assert [change.split(":")[0] for change in one.differences] == ["role sentinel"]
    assert not one.refusal
    two = compare(first, await played(tmp_path / "c.db", weighted(sentinel=3.0, tracer=3.0)))
    assert "2 things differ" in two.verdict
    assert two.verdict.startswith("NOT COMPARABLE")


@pytest.mark.usefixtures("virtual_time")
async def test_other_rounds_engines_and_broken_runs_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another seed asks other questions; an embedded run says nothing beside an LLM's; NOT REPORTABLE stays so."""
    first = await played(tmp_path / "a.db")
    assert "same rounds" in compare(first, await played(tmp_path / "b.db", replace(BASE, seed=4))).refusal
    llm = replace(first, run=replace(first.run, engine="llm"))
    assert "embedded" in compare(first, llm).refusal
    broken = await played(tmp_path / "c.db", faults={ROLES[0].model: content("")})
    assert "not reportable" in compare(first, broken).refusal
    assert main(["compare", str(tmp_path / "a.db"), str(tmp_path / "b.db")]) == 5
    assert "NOT COMPARABLE" in capsys.readouterr().out


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_a_probability_and_symmetric(first: int, second: int) -> None:
    """Swapping the runs changes the sign, not the certainty; a tie is certain of nothing."""
    forward, backward = Paired(500, first, second), Paired(500, second, first)
    assert forward.p_value == backward.p_value
    assert 0.0 < forward.p_value <= 1.0
    if first == second:
        assert forward.p_value == 1.0


def test_mcnemar_known_value() -> None:
    """Ten against none is 2 in 1024."""
    assert Paired(100, 0, 10).p_value == pytest.approx(2 / 1024)
