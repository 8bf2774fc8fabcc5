"""The same decisions again: three runs, more calibration, another order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runners.quantize.cache import SensitivityCache, nine_digits
from runners.quantize.pipeline import plan
from runners.quantize.statistics import rank_correlation

if TYPE_CHECKING:
    from quantize_world import World


def test_four_times_the_calibration_ranks_the_layers_alike(world: World, tmp_path: Path) -> None:
    """Not digit for digit, as other tokens are other tokens; the order of what hurts stays."""
    planned = []
    for windows in (3, 12):
        with world.run(tmp_path / str(windows), calibration_windows=windows) as run:
            planned.append(plan(run, run.here))
    keys = list(planned[0].rows)
    few, many = ([p.rows[key].fisher for key in keys] for p in planned)
    assert rank_correlation(few, many) > 0.95


def test_kl_and_fisher_agree_on_what_hurts(world: World, tmp_path: Path) -> None:
    """Two roads to nats: a second-order estimate, and each damaged layer carried to the logits."""
    with world.run(tmp_path, signal="kl", kl_windows=3) as run:
        planned = plan(run, run.here)
        again = plan(run, run.here)
    keys = list(planned.kl)
    assert set(keys) == set(planned.rows)
    fisher = [planned.rows[key].fisher for key in keys]
    assert rank_correlation(fisher, [planned.kl[key] for key in keys]) > 0.9
    assert again.kl == planned.kl
    assert again.allocation.bits == planned.allocation.bits


def test_digits_that_threads_could_change_are_cut() -> None:
    """The tenth is gone before anything is filed."""
    assert nine_digits(0.123456789012) == nine_digits(0.123456789049)


def test_an_empty_cache_has_nothing(tmp_path: Path) -> None:
    """And says so by an empty answer, not by another key's rows."""
    cache = SensitivityCache(tmp_path / "new" / "sensitivity.db")
    try:
        assert cache.get({"model": "x"}) == {}
        assert cache.get_kl({"model": "x"}) == {}
    finally:
        cache.close()
