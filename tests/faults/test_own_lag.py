"""The daemon itself is stopped for a while, as by a suspended machine: nobody is blamed for what it did not hear."""

from __future__ import annotations

import os
import signal
import sys
import time

from installed import QUICK, installation, process_state

# A child that keeps its watchdog fed, ten times a second.
FED = """
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setblocking(False)
def tell(text):
    try: s.sendto(text, os.environ["NOTIFY_SOCKET"])
    except OSError: pass
tell(b"READY=1")
while True:
    tell(b"WATCHDOG=1")
    time.sleep(0.1)
"""

CONFIG = f"""{QUICK}
[probes.host]
interval_seconds = 0.2
lag_seconds = 0.5
[probes.progress]
interval_seconds = 0.1
[hysteresis.progress]
raise_after = 1
out_of = 1
clear_after_seconds = 1.0
flap_window_seconds = 60.0
flap_hold_max_seconds = 1.0
[subsystems.worker]
command = ["{sys.executable}", "-S", "-c", '''{FED}''']
notifies = true
"""


def test_a_daemon_that_stood_still_says_so_and_blames_nobody() -> None:
    """SIGSTOP, then SIGCONT: one event with how long, a series, and every subsystem as it was."""
    with installation(CONFIG) as house:
        house.start()
        house.wait(lambda: house.subsystem("worker")["state"] == "running", "the worker")
        assert house.process is not None
        os.kill(house.process.pid, signal.SIGSTOP)
        stopped, pid = time.monotonic(), house.process.pid
        house.wait(lambda: process_state(pid) == "T" and time.monotonic() - stopped > 1.5, "the stop")
        os.kill(house.process.pid, signal.SIGCONT)
        house.wait(lambda: bool(house.events("loop.lagged")), "the lag to be told")
        assert house.events("loop.lagged")[0]["fields"]["seconds"] >= 1.0
        status = house.status()
        assert (status["phase"], status["anomalies"]) == ("NORMAL", [])
        assert house.events("anomaly.raised") == []
