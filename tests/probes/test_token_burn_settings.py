"""Every threshold can be reached, by events, within what its detector remembers; what cannot is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from shipped_settings import PROBES, refused

from epad.configuration.load import ConfigError, load
from probes.token_burn import BurnWindow, Detector
from probes.token_burn.settings import WITH_A_RUNG
from statemachine.rung import Rung


def test_every_detector_has_a_rung_as_shipped() -> None:
    """The burn rate's windows have one each."""
    assert PROBES.token_burn.rungs.keys() == WITH_A_RUNG
    assert PROBES.token_burn.burn.keys() == {"fast", "steady", "long", "slow"}
    for detector in WITH_A_RUNG:
        assert PROBES.token_burn.rung(Detector(detector)).label == PROBES.token_burn.rungs[detector]


def test_a_detector_that_an_older_recording_lacks_slows() -> None:
    """Nothing is frozen for what nobody has configured."""
    assert replace(PROBES.token_burn, rungs={}).rung(Detector.HARD_LIMIT) is Rung.THROTTLE


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
        ("oldest_seconds", 5),
        ("cusum_act", 4.0),
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
    assert key in refused(PROBES.token_burn, **{key: value})


@pytest.mark.parametrize(
    ("seconds", "day_share", "rung", "key"),
    [
        (59.0, 0.03, "freeze", "seconds"),
        (43_201.0, 0.9, "freeze", "seconds"),
        (8_640.0, 0.1, "freeze", "day_share"),
        (300.0, 1.0, "freeze", "day_share"),
        (300.0, 0.03, "harder", "rung"),
    ],
)
def test_a_burn_window_that_cannot_be_met_or_left_is_refused(
    tmp_path: Path, seconds: float, day_share: float, rung: str, key: str
) -> None:
    """A share that even spending reaches is no runaway's; a whole day's budget is the hard limit's."""
    file = tmp_path / "epad.toml"
    file.write_text(
        f"[probes.token_burn.burn.fast]\nseconds = {seconds}\nday_share = {day_share}\nrung = '{rung}'\n"
    )
    with pytest.raises(ConfigError, match=rf"probes\.token_burn\.burn\.fast\.{key}: is "):
        load(file)


def test_there_are_only_so_many_burn_windows() -> None:
    """Each costs something at every event."""
    windows = {f"w{n}": BurnWindow(300.0, 0.03, "freeze") for n in range(7)}
    (fault,) = replace(PROBES.token_burn, burn=windows).faults()
    assert (fault.key, fault.text) == (
        ("burn",),
        "is 7 windows, and must be at most 6: each costs its sums",
    )


def test_a_configuration_can_change_one_key_of_a_window(tmp_path: Path) -> None:
    """The others stay as shipped."""
    file = tmp_path / "epad.toml"
    file.write_text("[probes.token_burn.burn.fast]\nday_share = 0.05\n")
    burn = load(file).probes.token_burn.burn
    assert burn["fast"] == BurnWindow(300.0, 0.05, "throttle")
    assert burn["slow"] == PROBES.token_burn.burn["slow"]
