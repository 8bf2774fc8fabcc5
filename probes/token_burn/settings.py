"""Set the limits of a runaway; each is checked to be reachable within its detector's memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from probes.bounds import TWO_INTERVALS, Bound, BoundError, Derived, check, check_rung
from probes.token_burn.verdict import NAME, Detector
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
    """Gives the detectors the limits of a subsystem's budget; 0 means no limit."""

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
        """Return the spending rate as a multiple of the day's budget spent evenly."""
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


_INTERVAL = "interval_seconds"
_LOOK = Derived(
    "output_windows times output_window_characters",
    lambda t: t.output_windows * t.output_window_characters,
    ("output_windows", "output_window_characters"),
)

WINDOW_BOUNDS = (
    Bound(_INTERVAL, above=0),
    Bound("window_seconds", least=_INTERVAL, why="what is spent between two samples would never be seen"),
    Bound(
        "warn_ratio",
        above=0,
        most=1,
        why="a hard budget is never overshot, so a higher one is never reached",
    ),
    Bound("hammering_slots", least=1, most=WINDOW_SLOTS, why="so many parts the window has"),
    Bound("hammering_refusals", least=1, why="no refusal is no hammering"),
    Bound("pile_up_ratio", above=1, below=math.inf, why="as many in flight as may be is no pile-up"),
    Bound("oldest_seconds", above=_INTERVAL, why="every turn is older"),
)

_RUN = "one request is no run, two are no answer that came back, and a run is not followed further"
PROMPT_BOUNDS = (
    Bound("identical_prompts", least=3, most=LONGEST_RUN, why=_RUN),
    Bound("appended_loops", least=3, most=LONGEST_RUN, why=_RUN),
    Bound("sampled_prompts", least=3, most=LONGEST_RUN, why=_RUN),
    Bound(
        "sampled_prompts",
        least="identical_prompts",
        why="that an answer is the same again is the surer sign",
    ),
    Bound("duplicate_ratio", above=0, most=LARGEST_SHARE, why="no loop has only turns that come back"),
    Bound("climb_seconds", least=TWO_INTERVALS, why="a throttle needs time to show that it does not help"),
)

RATIO_BOUNDS = (
    Bound("retry_warn_ratio", above=0),
    Bound("retry_ratio", least="retry_warn_ratio", below=1, why="more than all calls are never retries"),
    Bound("error_ratio", above=0, most=1),
    Bound("min_calls", least=2, why="one call has no ratio"),
)

CUSUM_BOUNDS = (
    Bound("cusum_warn", above=0),
    Bound("cusum_act", least="cusum_warn", below=math.inf),
    Bound("cusum_history_minutes", least=10, why="fewer have no spread"),
    Bound("cusum_patience_seconds", least=60, why="it goes by minutes"),
)

OUTPUT_BOUNDS = (
    Bound("output_window_characters", least=8, why="shorter ones repeat in any prose"),
    Bound(
        "output_windows",
        least=3,
        most=Derived(
            f"{REMEMBERED_CHARACTERS} / output_window_characters",
            lambda t: REMEMBERED_CHARACTERS / t.output_window_characters,
            ("output_window_characters",),
        ),
        why="no more of a stream is remembered",
    ),
    Bound("output_chunks", least=10, why="a divider has as many"),
    Bound("output_characters", least=_LOOK, why="less of a stream is no look at it"),
    Bound(
        "output_row_characters", least="output_characters", why="rows repeat honestly for longer than prose"
    ),
    Bound("output_answers", least=1, most=LONGEST_RUN),
)


def burn_bounds(interval_seconds: float) -> tuple[Bound, ...]:
    """Return the bounds of a burn window, which depend on how often is looked."""
    return (
        Bound(
            "seconds",
            least=12 * interval_seconds,
            most=DAY_SECONDS / 2,
            why="a sample falls into the twelfth of them that is its short window, and a day has two",
        ),
        Bound(
            "day_share",
            above=Derived("seconds' own share of a day", lambda w: w.seconds / DAY_SECONDS, ("seconds",)),
            below=1,
            why="spending the budget evenly is no runaway",
        ),
    )


@dataclass(frozen=True, slots=True)
class TokenBurnSettings:
    """Holds every detector's thresholds. Raises BoundError for one that can never be reached, or always is."""

    interval_seconds: float = 5.0
    window_seconds: float = 60.0
    warn_ratio: float = 0.8
    identical_prompts: int = 8
    duplicate_ratio: float = 0.66
    sampled_prompts: int = 200
    appended_loops: int = 100
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

    BOUNDS: ClassVar[tuple[Bound, ...]] = (
        *WINDOW_BOUNDS,
        *PROMPT_BOUNDS,
        *RATIO_BOUNDS,
        *CUSUM_BOUNDS,
        *OUTPUT_BOUNDS,
    )

    def __post_init__(self) -> None:
        check(NAME, self, self.BOUNDS)
        for name, label in self.rungs.items():
            if name not in RUNGS:
                bound = f"must be the name of a detector: {', '.join(sorted(RUNGS))}"
                raise BoundError(NAME, ("rungs", name), name, bound)
            check_rung(NAME, ("rungs", name), label)
        if len(self.burn) > MAX_BURN_WINDOWS:
            count = f"{len(self.burn)} windows"
            raise BoundError(
                NAME, ("burn",), count, f"must be at most {MAX_BURN_WINDOWS}: each costs its sums"
            )
        for name, window in self.burn.items():
            check(NAME, window, burn_bounds(self.interval_seconds), under=("burn", name))
            check_rung(NAME, ("burn", name, "rung"), window.rung)

    def rung(self, detector: Detector) -> Rung:
        """Return the rung that a detector's verdict calls for."""
        return Rung.labelled(self.rungs.get(detector.value, RUNGS[detector.value]))
