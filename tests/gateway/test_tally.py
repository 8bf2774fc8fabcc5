"""What is gathered of counters and durations is all there whenever the metrics are read."""

from __future__ import annotations

from epad.gateway.tally import MOST_WAITING, Durations, Tally
from epad.metrics.registry import Metrics


def test_what_is_gathered_is_there_when_it_is_read() -> None:
    metrics = Metrics("test", ["a"])
    tokens, seconds = Tally(metrics.tokens.labels), Durations(metrics.turn_seconds.labels)
    metrics.gathers(tokens.add_up, seconds.add_up)
    read = metrics.registry.get_sample_value
    for _ in range(2):
        tokens["a", "input"] += 3
        tokens["a", "output"] += 1
        seconds.add(("a",), 0.2)
    assert read("epad_tokens_total", {"subsystem": "a", "kind": "input"}) == 6
    assert read("epad_tokens_total", {"subsystem": "a", "kind": "output"}) == 2
    assert read("epad_turn_duration_seconds_count", {"subsystem": "a"}) == 2
    tokens["a", "input"] += 1
    assert b'epad_tokens_total{kind="input",subsystem="a"} 7.0' in metrics.render()
    assert read("epad_turn_duration_seconds_count", {"subsystem": "a"}) == 2


def test_durations_do_not_wait_for_ever_to_be_read() -> None:
    metrics = Metrics("test")
    seconds = Durations(lambda: metrics.gateway_seconds)
    for _ in range(MOST_WAITING):
        seconds.add((), 0.003)
    assert metrics.registry.get_sample_value("epad_gateway_added_seconds_count") == MOST_WAITING
    assert metrics.registry.get_sample_value("epad_gateway_added_seconds_bucket", {"le": "0.002"}) == 0
