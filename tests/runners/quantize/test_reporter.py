"""Progress as people, logs and epad see it."""

from __future__ import annotations

import io
import socket
import tempfile
from pathlib import Path

from runners.contract import Contract
from runners.quantize.reporter import Reporter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_few_lines_with_time_left_and_peak() -> None:
    """One at most every ten seconds, and the last."""
    stream, clock = io.StringIO(), Clock()
    reporter = Reporter(Contract(), stream, clock)
    reporter.stage("profile", 10, done=2)
    for _ in range(8):
        clock.now += 4
        reporter.step(300 << 20)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "profile 3/10, 28 s left, peak 300 MiB"
    assert lines[-1] == "profile 10/10, peak 300 MiB"
    assert len(lines) == 4


def test_epad_hears_ready_progress_and_the_vram_that_is_wanted() -> None:
    """What a stage will take is said before it begins, so that there is time to pause it; and 0 at the end."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
    ):
        address = str(Path(folder) / "notify")
        heard.bind(address)
        heard.settimeout(60)
        reporter = Reporter(Contract(notify_socket=address), io.StringIO())
        reporter.vram_of = {"quantize": 5 << 30}.__getitem__
        reporter.stage("quantize", 2)
        reporter.step()
        reporter.end()
        said = [heard.recv(4096).decode() for _ in range(5)]
    assert said[0].startswith("READY=1")
    assert said[1] == "X_EPAD_VRAM_WANTED=5368709120"
    assert said[2].startswith("X_EPAD_PROGRESS=1/2\nSTATUS=quantize 1/2")
    assert said[3:] == ["X_EPAD_VRAM_WANTED=0", "STOPPING=1"]
