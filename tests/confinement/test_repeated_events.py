"""The same event within a few seconds is written once, and nothing of the others is lost."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from epad.confinement import repeated_events
from epad.confinement.repeated_events import EVENT_SECONDS, RepeatedEvents
from epad.storage.event_log import EventKind, EventLog
from statemachine.clock import ManualClock


class Log:
    """Keeps what was emitted."""

    def __init__(self) -> None:
        self.fields: list[dict[str, Any]] = []

    def emit(self, kind: EventKind, subsystem: str = "", **fields: Any) -> None:
        self.fields.append(fields)

    def total(self, name: str) -> int:
        return sum(one.get(name, 0) + one.get(f"{name}_before", 0) for one in self.fields)

    @property
    def connections(self) -> int:
        return sum(1 + one["unsaid_before"] for one in self.fields)


def close(events: RepeatedEvents, host: str, sent: int) -> None:
    events.emit(EventKind.EGRESS_CLOSED, "chat", (host,), host=host, sent_bytes=sent, received_bytes=2 * sent)


async def test_what_is_left_out_is_summed_up_in_the_next() -> None:
    """Its number and its bytes."""
    log, clock = Log(), ManualClock()
    events = RepeatedEvents(cast("EventLog", log), clock)
    for sent in (1, 10, 100):
        close(events, "a.example", sent)
    clock.advance(EVENT_SECONDS)
    close(events, "a.example", 1_000)
    assert [one["unsaid_before"] for one in log.fields] == [0, 2]
    assert log.fields[1]["sent_bytes_before"] == 110
    events.settle()
    assert len(log.fields) == 2


async def test_the_last_ones_are_written_though_no_other_comes() -> None:
    """As one event: the last, with the others before it."""
    log = Log()
    events = RepeatedEvents(cast("EventLog", log), ManualClock())
    for sent in (1, 10, 100):
        close(events, "a.example", sent)
    events.settle()
    assert (log.fields[1]["sent_bytes"], log.fields[1]["sent_bytes_before"]) == (100, 10)
    assert (log.connections, log.total("sent_bytes"), log.total("received_bytes")) == (3, 111, 222)


STEP = st.tuples(
    st.sampled_from("abcd"), st.integers(0, 1_000), st.sampled_from([0.0, 1.0, 6.0]), st.booleans()
)


@given(
    steps=st.lists(STEP),
    most=st.integers(1, 3),
)
async def test_no_byte_and_no_connection_is_lost(
    steps: list[tuple[str, int, float, bool]], most: int
) -> None:
    """Whatever is left out, forgotten or settled in between."""
    log, clock = Log(), ManualClock()
    events = RepeatedEvents(cast("EventLog", log), clock)
    kept, repeated_events._MOST_SILENT = repeated_events._MOST_SILENT, most  # type: ignore[misc]
    try:
        for host, sent, seconds, settles in steps:
            close(events, host, sent)
            clock.advance(seconds)
            if settles:
                events.settle()
        events.settle()
    finally:
        repeated_events._MOST_SILENT = kept  # type: ignore[misc]
    assert log.connections == len(steps)
    assert log.total("sent_bytes") == sum(sent for _, sent, _, _ in steps)
    assert log.total("received_bytes") == 2 * log.total("sent_bytes")
