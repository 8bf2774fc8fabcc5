"""When spending is a runaway; each threshold is checked to be reachable within what its detector remembers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from probes.token_burn.verdict import DETECTORS, Detector
from probes.token_burn.window import WINDOW_SLOTS
from statemachine.containment import Rung

DAY_SECONDS = 86_400.0
LARGEST_SHARE = 0.95
"""Of turns that come back: with more, a single new question would undo any count."""

REMEMBERED_CHARACTERS = 8_192
"""How much of a stream's end is remembered; a loop longer than a tenth of it is not seen."""

LONGEST_RUN = 1_000
MAX_BURN_WINDOWS = 6
"""Each costs two sums an event."""


@dataclass(frozen=True, slots=True)
class SubsystemBudget:
    """What the detectors need of a subsystem's budget; 0 means no limit."""

    tokens_per_minute: int = 0
    tokens_per_day: int = 0
    max_in_flight: int = 8


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """A share of the day's budget within some seconds, burnt at that pace in the last twelfth of them too."""

    seconds: float
    day_share: float
    rung: str

    @property
    def pace(self) -> float:
        """How many times faster than the whole day's budget spent evenly."""
        return self.day_share * DAY_SECONDS / self.seconds


BURN_WINDOWS: Mapping[str, BurnWindow] = MappingProxyType(
    {
        "fast": BurnWindow(300.0, 0.03, "throttle"),
        "steady": BurnWindow(900.0, 0.06, "throttle"),
        "long": BurnWindow(1_800.0, 0.10, "throttle"),
        "slow": BurnWindow(7_200.0, 0.24, "throttle"),
    }
)

# Only a fact freezes at once. What is told by statistics is slowed, which stops the bleeding and costs little if it was
# wrong; a loop that goes on under it for `climb_seconds` is frozen then.
RUNGS: Mapping[str, str] = MappingProxyType(
    {
        Detector.HARD_LIMIT.value: "freeze",
        Detector.BUSY_CUSUM.value: "throttle",
        Detector.IDENTICAL_PROMPTS.value: "throttle",
        Detector.DUPLICATE_PROMPTS.value: "throttle",
        Detector.SAMPLED_PROMPTS.value: "throttle",
        Detector.RENUMBERED_PROMPTS.value: "throttle",
        Detector.APPENDED_LOOP.value: "throttle",
        Detector.RETRY_RATIO.value: "throttle",
        Detector.ERROR_RATIO.value: "throttle",
        Detector.PILE_UP.value: "throttle",
        Detector.LOOPING_OUTPUT.value: "throttle",
    }
)
"""The rung of each detector, but for the burn rate's: its windows have their own."""

CLIMBING = frozenset(
    {
        Detector.IDENTICAL_PROMPTS,
        Detector.DUPLICATE_PROMPTS,
        Detector.RENUMBERED_PROMPTS,
        Detector.APPENDED_LOOP,
        Detector.LOOPING_OUTPUT,
    }
)
"""Those that freeze what they have throttled, if it goes on: it shows the same, whatever its pace."""


@dataclass(frozen=True, slots=True)
class TokenBurnThresholds:
    """Every detector's thresholds. Raises ValueError for what could never be reached, or always is."""

    interval_seconds: float = 5.0
    window_seconds: float = 60.0
    warn_ratio: float = 0.8
    identical_prompts: int = 8
    duplicate_ratio: float = 0.66
    sampled_prompts: int = 200
    appended_loops: int = 14
    climb_seconds: float = 120.0
    retry_warn_ratio: float = 0.1
    retry_ratio: float = 0.3
    error_ratio: float = 0.5
    min_calls: int = 10
    hammering_slots: int = 10
    hammering_refusals: int = 20
    pile_up_ratio: float = 16.0
    oldest_seconds: float = 1_800.0
    cusum_warn: float = 5.0
    cusum_act: float = 8.0
    cusum_history_minutes: int = 60
    cusum_patience_seconds: float = 600.0
    output_window_characters: int = 50
    output_windows: int = 10
    output_chunks: int = 4_096
    output_characters: int = 2_000
    output_row_characters: int = 12_000
    output_answers: int = 5
    burn: Mapping[str, BurnWindow] = field(default_factory=lambda: BURN_WINDOWS)
    rungs: Mapping[str, str] = field(default_factory=lambda: RUNGS)

    def __post_init__(self) -> None:
        for check in (
            _check_window,
            _check_hammering,
            _check_prompts,
            _check_ratios,
            _check_pile_up,
            _check_cusum,
            _check_output,
            _check_rungs,
        ):
            check(self)
        if len(self.burn) > MAX_BURN_WINDOWS:
            raise ValueError(f"probes.token_burn.burn has {len(self.burn)} windows, above {MAX_BURN_WINDOWS}")
        for name, window in self.burn.items():
            _check_burn(f"probes.token_burn.burn.{name}", window, self.interval_seconds)

    def rung(self, detector: Detector) -> Rung:
        """What a detector's verdict calls for."""
        return rung_named(self.rungs.get(detector.value, RUNGS[detector.value]))


def rung_named(label: str) -> Rung:
    """The rung of that label."""
    return Rung.labelled(label)


def _check_window(t: TokenBurnThresholds) -> None:
    if t.interval_seconds <= 0:
        raise ValueError("probes.token_burn.interval_seconds must be above 0")
    if t.window_seconds < t.interval_seconds:
        raise ValueError(
            f"probes.token_burn.window_seconds ({t.window_seconds}) is shorter than interval_seconds "
            f"({t.interval_seconds}): what is spent between two samples would never be seen"
        )
    if not 0 < t.warn_ratio <= 1:
        raise ValueError(
            f"probes.token_burn.warn_ratio ({t.warn_ratio}) must be above 0 and at most 1: "
            "a hard budget is never overshot, so a higher one is never reached"
        )


def _check_hammering(t: TokenBurnThresholds) -> None:
    if not 1 <= t.hammering_slots <= WINDOW_SLOTS:
        raise ValueError(
            f"probes.token_burn.hammering_slots must be from 1 to {WINDOW_SLOTS}: so many parts the window has"
        )
    if t.hammering_refusals < 1:
        raise ValueError("probes.token_burn.hammering_refusals must be above 0: no refusal is no hammering")


def _check_prompts(t: TokenBurnThresholds) -> None:
    for key in ("identical_prompts", "appended_loops", "sampled_prompts"):
        if not 3 <= getattr(t, key) <= LONGEST_RUN:
            raise ValueError(
                f"probes.token_burn.{key} must be from 3 to {LONGEST_RUN}: one request is no run, two are no answer "
                "that came back, and a run is not followed further"
            )
    if t.sampled_prompts < t.identical_prompts:
        raise ValueError(
            f"probes.token_burn.sampled_prompts ({t.sampled_prompts}) must be at least identical_prompts "
            f"({t.identical_prompts}): that an answer is the same again is the surer sign"
        )
    if not 0 < t.duplicate_ratio <= LARGEST_SHARE:
        raise ValueError(
            f"probes.token_burn.duplicate_ratio ({t.duplicate_ratio}) must be above 0 and at most {LARGEST_SHARE}: "
            "no loop has only turns that come back"
        )
    if t.climb_seconds < 2 * t.interval_seconds:
        raise ValueError(
            f"probes.token_burn.climb_seconds ({t.climb_seconds:g}) must be at least twice interval_seconds "
            f"({t.interval_seconds:g}): a throttle needs time to show that it does not help"
        )


def _check_ratios(t: TokenBurnThresholds) -> None:
    if not 0 < t.retry_warn_ratio <= t.retry_ratio < 1:
        raise ValueError(
            f"probes.token_burn.retry_ratio ({t.retry_ratio}) must be at least retry_warn_ratio "
            f"({t.retry_warn_ratio}) and below 1: more than all calls are never retries"
        )
    if not 0 < t.error_ratio <= 1:
        raise ValueError(f"probes.token_burn.error_ratio ({t.error_ratio}) must be above 0 and at most 1")
    if t.min_calls < 2:
        raise ValueError("probes.token_burn.min_calls must be 2 or more: one call has no ratio")


def _check_pile_up(t: TokenBurnThresholds) -> None:
    if not 1 < t.pile_up_ratio < math.inf:
        raise ValueError(
            f"probes.token_burn.pile_up_ratio ({t.pile_up_ratio}) must be above 1: "
            "as many in flight as may be is no pile-up"
        )
    if t.oldest_seconds <= t.interval_seconds:
        raise ValueError(
            "probes.token_burn.oldest_seconds must be above interval_seconds: every turn is older"
        )


def _check_cusum(t: TokenBurnThresholds) -> None:
    if not 0 < t.cusum_warn <= t.cusum_act < math.inf:
        raise ValueError(
            f"probes.token_burn.cusum_act ({t.cusum_act}) must be at least cusum_warn ({t.cusum_warn}), "
            "which must be above 0"
        )
    if t.cusum_history_minutes < 10:
        raise ValueError("probes.token_burn.cusum_history_minutes must be 10 or more: fewer have no spread")
    if t.cusum_patience_seconds < 60:
        raise ValueError("probes.token_burn.cusum_patience_seconds must be 60 or more: it goes by minutes")


def _check_output(t: TokenBurnThresholds) -> None:
    if t.output_window_characters < 8:
        raise ValueError(
            "probes.token_burn.output_window_characters must be 8 or more: shorter ones repeat in any prose"
        )
    needed = t.output_window_characters * t.output_windows
    if t.output_windows < 3 or needed > REMEMBERED_CHARACTERS:
        raise ValueError(
            f"probes.token_burn.output_windows ({t.output_windows}) must be 3 or more, and times "
            f"output_window_characters at most {REMEMBERED_CHARACTERS}: no more of a stream is remembered"
        )
    if t.output_chunks < 10:
        raise ValueError("probes.token_burn.output_chunks must be 10 or more: a divider has as many")
    if t.output_characters < needed:
        raise ValueError(
            f"probes.token_burn.output_characters ({t.output_characters}) must be at least output_windows times "
            f"output_window_characters ({needed}): less of a stream is no look at it"
        )
    if t.output_row_characters < t.output_characters:
        raise ValueError(
            f"probes.token_burn.output_row_characters ({t.output_row_characters}) must be at least output_characters "
            f"({t.output_characters}): rows repeat honestly for longer than prose"
        )
    if not 1 <= t.output_answers <= LONGEST_RUN:
        raise ValueError(f"probes.token_burn.output_answers must be from 1 to {LONGEST_RUN}")


def _check_rungs(t: TokenBurnThresholds) -> None:
    for name, label in t.rungs.items():
        if name not in DETECTORS - {Detector.BURN_RATE.value}:
            raise ValueError(
                f"probes.token_burn.rungs.{name} names no detector; there are: {', '.join(sorted(RUNGS))}"
            )
        _check_rung(f"probes.token_burn.rungs.{name}", label)


def _check_rung(key: str, label: str) -> None:
    labels = [rung.label for rung in Rung]
    if label not in labels:
        raise ValueError(f"{key} ({label}) is no rung; there are: {', '.join(labels)}")


def _check_burn(key: str, window: BurnWindow, interval_seconds: float) -> None:
    if not 12 * interval_seconds <= window.seconds <= DAY_SECONDS / 2:
        raise ValueError(
            f"{key}.seconds ({window.seconds:g}) must be from 12 intervals ({12 * interval_seconds:g}), so that "
            "a sample falls into its short window, to half a day"
        )
    if not window.seconds / DAY_SECONDS < window.day_share < 1:
        raise ValueError(
            f"{key}.day_share ({window.day_share:g}) must be below 1, and above {key}.seconds' own share of a "
            f"day ({window.seconds / DAY_SECONDS:.4f}): spending the budget evenly is no runaway"
        )
    _check_rung(f"{key}.rung", window.rung)
