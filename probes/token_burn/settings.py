"""Set the limits of a runaway; each is checked to be reachable within its detector's memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from probes.bounds import TWO_INTERVALS, Bound, Derived, Fault, KeyPath, faults
from probes.settings import EnforcedSettings
from probes.token_burn.verdict import DETECTORS, GENTLE_NAME, Detector
from probes.token_burn.window import WINDOW_SLOTS
from statemachine.rung import Rung, RungName
from statemachine.value_types import WHY, Count, Name, Positive, Seconds, Share

DAY_SECONDS = 86_400.0
LARGEST_SHARE = 0.95
"""Of turns that come back: with more, a single new question would undo any count."""

REMEMBERED_CHARACTERS = 8_192
"""How much of a stream's end is remembered; a loop longer than a tenth of it is not seen."""

LONGEST_RUN = 1_000
MAX_BURN_WINDOWS = 6
"""Each costs two sums an event."""

WITH_A_RUNG = DETECTORS - {Detector.BURN_RATE.value}
"""The burn rate's windows have a rung each."""


@dataclass(frozen=True, slots=True)
class SubsystemBudget:
    """Gives the detectors the limits of a subsystem's budget; 0 means no limit."""

    tokens_per_minute: int = 0
    tokens_per_day: int = 0
    max_in_flight: int = 8


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


class BurnWindow(Struct, frozen=True, forbid_unknown_fields=True):
    """A share of the day's budget within some seconds, and the rung that calls for."""

    # It must be burnt at that pace in the last twelfth of them too.
    seconds: Annotated[float, Meta(gt=0, le=DAY_SECONDS / 2, extra={WHY: "a day has two of them"})]
    day_share: Annotated[
        float, Meta(gt=0, lt=1, extra={WHY: "the whole budget is gone before it is reached"})
    ]
    rung: RungName

    @property
    def pace(self) -> float:
        """Return the spending rate as a multiple of the day's budget spent evenly."""
        return self.day_share * DAY_SECONDS / self.seconds

    def faults(self, interval_seconds: float, under: KeyPath) -> Iterator[Fault]:
        """Yield the faults of a window that is looked at so often."""
        return faults(self, burn_bounds(interval_seconds), under)


def burn_bounds(interval_seconds: float) -> tuple[Bound, ...]:
    """Return the bounds of a burn window, which depend on how often is looked."""
    return (
        Bound(
            "seconds",
            least=12 * interval_seconds,
            why="a sample falls into the twelfth of them that is its short window",
        ),
        Bound(
            "day_share",
            above=Derived("seconds' own share of a day", lambda w: w.seconds / DAY_SECONDS, ("seconds",)),
            why="spending the budget evenly is no runaway",
        ),
    )


_RUN = {WHY: "one request is no run, two are no answer that came back, and a run is not followed further"}
_Run = Annotated[int, Meta(ge=3, le=LONGEST_RUN, extra=_RUN)]


class TokenBurnSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets the limits of spending: of every detector of a runaway."""

    window_seconds: Seconds
    warn_ratio: Annotated[
        Share, Meta(extra={WHY: "a hard budget is never overshot, so a higher one is never reached"})
    ]
    identical_prompts: _Run
    duplicate_ratio: Annotated[
        float, Meta(gt=0, le=LARGEST_SHARE, extra={WHY: "no loop has only turns that come back"})
    ]
    sampled_prompts: _Run
    appended_loops: _Run
    climb_seconds: Seconds
    retry_warn_ratio: Share
    retry_ratio: Annotated[float, Meta(ge=0, lt=1, extra={WHY: "more than all calls are never retries"})]
    error_ratio: Share
    min_calls: Annotated[int, Meta(ge=2, extra={WHY: "one call has no ratio"})]
    hammering_slots: Annotated[int, Meta(ge=1, le=WINDOW_SLOTS, extra={WHY: "so many parts the window has"})]
    hammering_refusals: Annotated[Count, Meta(extra={WHY: "no refusal is no hammering"})]
    pile_up_ratio: Annotated[float, Meta(gt=1, extra={WHY: "as many in flight as may be is no pile-up"})]
    oldest_seconds: Seconds
    cusum_warn: Positive
    cusum_act: Positive
    cusum_history_minutes: Annotated[int, Meta(ge=10, extra={WHY: "fewer have no spread"})]
    cusum_patience_seconds: Annotated[float, Meta(ge=60, extra={WHY: "it goes by minutes"})]
    output_window_characters: Annotated[int, Meta(ge=8, extra={WHY: "shorter ones repeat in any prose"})]
    output_windows: Annotated[int, Meta(ge=3)]
    output_chunks: Annotated[int, Meta(ge=10, extra={WHY: "a divider has as many"})]
    output_characters: Count
    output_row_characters: Count
    output_answers: Annotated[int, Meta(ge=1, le=LONGEST_RUN)]
    burn: dict[Name, BurnWindow]
    rungs: dict[Name, RungName]

    BOUNDS: ClassVar[tuple[Bound, ...]] = (
        Bound(
            "window_seconds",
            least="interval_seconds",
            why="what is spent between two samples would never be seen",
        ),
        Bound("oldest_seconds", above="interval_seconds", why="every turn is older"),
        Bound(
            "sampled_prompts",
            least="identical_prompts",
            why="that an answer is the same again is the surer sign",
        ),
        Bound(
            "climb_seconds", least=TWO_INTERVALS, why="a throttle needs time to show that it does not help"
        ),
        Bound("retry_ratio", least="retry_warn_ratio"),
        Bound("cusum_act", least="cusum_warn"),
        Bound(
            "output_windows",
            most=Derived(
                f"{REMEMBERED_CHARACTERS} / output_window_characters",
                lambda t: REMEMBERED_CHARACTERS / t.output_window_characters,
                ("output_window_characters",),
            ),
            why="no more of a stream is remembered",
        ),
        Bound(
            "output_characters",
            least=Derived(
                "output_windows times output_window_characters",
                lambda t: t.output_windows * t.output_window_characters,
                ("output_windows", "output_window_characters"),
            ),
            why="less of a stream is no look at it",
        ),
        Bound(
            "output_row_characters",
            least="output_characters",
            why="rows repeat honestly for longer than prose",
        ),
    )
    DETECTORS: ClassVar[frozenset[str]] = DETECTORS
    FINDS_AS: ClassVar[frozenset[str]] = frozenset({GENTLE_NAME})

    def faults(self) -> Iterator[Fault]:
        """Yield the settings that can never be reached, or always are."""
        yield from super().faults()
        for name in self.rungs.keys() - WITH_A_RUNG:
            known = ", ".join(sorted(WITH_A_RUNG))
            yield Fault(("rungs", name), f"is {name}, and must be the name of a detector: {known}")
        if len(self.burn) > MAX_BURN_WINDOWS:
            most = f"must be at most {MAX_BURN_WINDOWS}: each costs its sums"
            yield Fault(("burn",), f"is {len(self.burn)} windows, and {most}")
        for name, window in self.burn.items():
            yield from window.faults(self.interval_seconds, ("burn", name))

    def rung(self, detector: Detector) -> Rung:
        """Return the rung that a detector's verdict calls for."""
        # The recording of an older epad may lack a detector: it is slowed then, as almost all are.
        return Rung.labelled(self.rungs.get(detector.value, "throttle"))
