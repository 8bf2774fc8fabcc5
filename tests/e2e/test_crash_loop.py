"""A real process that loads, becomes ready and dies, again and again, further apart than any restart period."""

from __future__ import annotations

import sys

from installed import QUICK, installation

DIES = "import time; time.sleep(0.4); print('RuntimeError: CUDA out of memory. Tried 2 GiB'); raise SystemExit(1)"
# An hour in seconds: a burst is what follows within a tenth of one, and no life is healthy.
CONFIG = f"""{QUICK}
[probes.cascade]
burst_seconds = 0.1
row_crashes = 20
settle_seconds = 0.05
[subsystems.loop]
command = ["{sys.executable}", "-S", "-c", "{DIES}"]
[subsystems.loop.restart]
intensity = 1
period_seconds = 0.2
backoff_seconds = 0.25
backoff_max_seconds = 0.5
failures_in_a_row = 6
[subsystems.bystander]
command = ["sleep", "600"]
"""


def test_a_slow_loop_is_told_then_given_up_and_nobody_else_suffers() -> None:
    """Told while it goes on, and holds nothing; stopped once it is given up, with its cause in our words."""
    with installation(CONFIG) as house:
        house.start()
        house.wait(lambda: house.subsystem("loop")["state"] == "failed", "it to be given up")
        house.wait(lambda: house.subsystem("loop")["hold"]["rung"] == "stop", "it to be held")
        told, given_up = (event["fields"] for event in house.events("anomaly.raised"))
        assert told["reason"].startswith("crashed 3 times in 60 min, lives of about ")
        assert told["rung"] == "open"
        words = (
            "exit 1 (CUDA out of memory) and is not restarted: it never ran healthily: died 7 times in a row"
        )
        assert words in given_up["reason"]
        assert len([e for e in house.events("subsystem.exited") if e["subsystem"] == "loop"]) == 7
        said = house.ctl("status", "loop").stdout
        assert (
            "none was ready for 1800 s; mend that, then `epactl release loop` and `epactl restart loop`"
            in said
        )
        assert "Tried 2 GiB" not in said
        bystander = house.subsystem("bystander")
        assert (bystander["state"], bystander["hold"]["rung"]) == ("running", "open")
        assert house.status()["phase"] == "QUARANTINE"
        assert house.stop() == 0


def test_a_loop_that_goes_on_is_held_before_it_is_given_up() -> None:
    """Five in a row are enough: told at the third, stopped at the fifth, and nobody else is."""
    with installation(CONFIG.replace("row_crashes = 20\n", "")) as house:
        house.start()
        house.wait(lambda: house.subsystem("loop")["hold"]["rung"] == "stop", "it to be held")
        told, held = (event["fields"] for event in house.events("anomaly.raised"))
        assert told["rung"] == "open"
        assert held["reason"].startswith("crashed 5 times in a row in ")
        assert "epactl release loop --reason TEXT" in house.ctl("status", "loop").stdout
        bystander = house.subsystem("bystander")
        assert (bystander["state"], bystander["hold"]["rung"]) == ("running", "open")
        assert house.stop() == 0
