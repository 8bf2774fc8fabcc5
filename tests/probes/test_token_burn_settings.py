"""Every threshold can be reached, by events, within what its detector remembers; what cannot is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from epad.configuration.load import load
from epad.configuration.probe_schema import TokenBurnConfig
from epad.configuration.thresholds import token_burn_thresholds
from probes.token_burn import DETECTORS, BurnWindow, Detector, TokenBurnSettings
from probes.token_burn.settings import BURN_WINDOWS, RUNGS


def test_the_shipped_configuration_is_the_default() -> None:
    """The reasons stand in default.toml, and the numbers are the same in both places."""
    shipped = token_burn_thresholds(load().probes.token_burn)
    assert shipped == TokenBurnSettings(burn=dict(BURN_WINDOWS), rungs=dict(RUNGS))
    assert set(shipped.rungs) == DETECTORS - {Detector.BURN_RATE.value}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("interval_seconds", 0),
        ("window_seconds", 1),
        ("warn_ratio", 0),
        ("warn_ratio", 1.2),
        ("identical_prompts", 1),
        ("identical_prompts", 1_001),
        ("identical_prompts", 2),
        ("sampled_prompts", 1_001),
        ("sampled_prompts", 7),
        ("climb_seconds", 5),
        ("appended_loops", 1),
        ("appended_loops", 1_001),
        ("duplicate_ratio", 0),
        ("duplicate_ratio", 0.96),
        ("retry_ratio", 1.0),
        ("retry_ratio", 0.05),
        ("error_ratio", 0),
        ("error_ratio", 1.1),
        ("min_calls", 1),
        ("pile_up_ratio", 1.0),
        ("pile_up_ratio", float("inf")),
        ("oldest_seconds", 5),
        ("cusum_act", 4.0),
        ("cusum_act", float("inf")),
        ("cusum_history_minutes", 5),
        ("cusum_patience_seconds", 5),
        ("output_window_characters", 5),
        ("output_windows", 164),
        ("output_windows", 2),
        ("output_chunks", 5),
        ("output_characters", 499),
        ("output_row_characters", 1_999),
        ("output_answers", 0),
        ("rungs", {"hard_limt": "freeze"}),
        ("rungs", {"burn_rate": "freeze"}),
        ("rungs", {"hard_limit": "harder"}),
    ],
)
def test_a_threshold_that_is_never_or_always_reached_is_refused(key: str, value: Any) -> None:
    """The error names the key to change."""
    with pytest.raises(ValueError, match=rf"probes\.token_burn\.{key}"):
        TokenBurnSettings(**{key: value})


@pytest.mark.parametrize(
    ("window", "key"),
    [
        (BurnWindow(59.0, 0.03, "freeze"), "seconds"),
        (BurnWindow(43_201.0, 0.9, "freeze"), "seconds"),
        (BurnWindow(8_640.0, 0.1, "freeze"), "day_share"),
        (BurnWindow(300.0, 1.0, "freeze"), "day_share"),
        (BurnWindow(300.0, 0.03, "harder"), "rung"),
    ],
)
def test_a_burn_window_that_cannot_be_met_or_left_is_refused(window: BurnWindow, key: str) -> None:
    """A share that even spending reaches is no runaway's; a whole day's budget is the hard limit's."""
    with pytest.raises(ValueError, match=rf"probes\.token_burn\.burn\.mine\.{key}"):
        TokenBurnSettings(burn={"mine": window})


def test_there_are_only_so_many_burn_windows() -> None:
    """Each costs something at every event."""
    windows = {f"w{n}": BurnWindow(300.0, 0.03, "freeze") for n in range(7)}
    with pytest.raises(ValueError, match=r"probes\.token_burn\.burn \(7 windows\) must be at most 6"):
        TokenBurnSettings(burn=windows)


def test_a_configuration_can_change_one_key_of_a_window() -> None:
    """The others stay as shipped."""
    config = load().probes.token_burn
    fast = msgspec.structs.replace(config.burn["fast"], day_share=0.05)
    changed: TokenBurnConfig = msgspec.structs.replace(config, burn={**config.burn, "fast": fast})
    assert token_burn_thresholds(changed).burn["fast"] == BurnWindow(300.0, 0.05, "throttle")
    assert token_burn_thresholds(changed).burn["slow"] == BURN_WINDOWS["slow"]
