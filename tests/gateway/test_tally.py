"""What is gathered of counters is all there whenever the metrics are read."""

from __future__ import annotations

from epad.gateway.metrics import TOKENS
from epad.gateway.tally import Tally
from epad.metrics.registry import Metrics


def test_what_is_gathered_is_there_when_it_is_read() -> None:
    metrics = Metrics(subsystems=["a"])
    tokens = Tally(metrics.of(TOKENS).labels)
    metrics.gathers(tokens.add_up)
    read = metrics.registry.get_sample_value
    for _ in range(2):
        tokens["a", "input"] += 3
        tokens["a", "output"] += 1
    assert read("epad_tokens_total", {"subsystem": "a", "kind": "input"}) == 6
    assert read("epad_tokens_total", {"subsystem": "a", "kind": "output"}) == 2
    tokens["a", "input"] += 1
    assert b'epad_tokens_total{kind="input",subsystem="a"} 7.0' in metrics.render()
