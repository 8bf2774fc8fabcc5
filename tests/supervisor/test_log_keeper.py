"""All logs together: one that cannot be kept harms no other, and what is lost is reported, but no flood of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import structlog

from epad.configuration.schema import LogConfig
from epad.supervisor.log_keeper import TELL_SECONDS, LogKeeper
from epad.supervisor.log_reader import last_lines

SMALL = LogConfig(max_bytes=65_536, keep=2)


class Sayings:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.told.append((event, fields))


def test_the_keeper_tells_of_trouble_once_and_tends_the_rest(tmp_path: Path) -> None:
    """One log that cannot be tended is no reason not to tend the others."""
    (tmp_path / "bad.log").symlink_to(tmp_path / "x")
    (tmp_path / "good.log").write_bytes(b"x" * (SMALL.max_bytes + 1))
    with structlog.testing.capture_logs() as said:
        keeper = LogKeeper(lambda name: tmp_path / f"{name}.log", structlog.get_logger())
        keeper.configure({"bad": SMALL, "good": SMALL})
        keeper.tend_all(1.0)
        keeper.tend_all(2.0)
    assert [entry["event"] for entry in said] == ["child_log.untended"]
    assert keeper.of("good").rotations == 1
    keeper.configure({"good": LogConfig()})
    assert keeper.of("good").rotations == 1
    with pytest.raises(KeyError):
        keeper.of("bad")


def test_a_flood_is_told_once_a_minute_and_is_not_called_a_full_disk(tmp_path: Path) -> None:
    """Every two seconds would be a flood of its own; what was lost meanwhile is told together."""
    sayings = Sayings()
    keeper = LogKeeper(lambda name: tmp_path / f"{name}.log", sayings)
    keeper.configure({"it": SMALL})
    for round_ in range(40):
        for _ in range(10):
            keeper.append("it", b"x" * 99 * 1000 + b"\n", float(round_))
        keeper.tend_all(2.0 * round_)
    told = [fields for event, fields in sayings.told if event == "child_log.dropped"]
    lost = 10 * 99_001 - 3 * SMALL.max_bytes
    assert [fields["bytes"] for fields in told] == [lost, round(TELL_SECONDS / 2) * lost]
    assert {fields["reason"] for fields in told} == {"more was printed than is kept, within 2 s"}


def test_a_burst_that_is_kept_is_not_told_at_all(tmp_path: Path) -> None:
    """It was rotated, and all of it can be read."""
    sayings = Sayings()
    keeper = LogKeeper(lambda name: tmp_path / f"{name}.log", sayings)
    keeper.configure({"it": LogConfig(max_bytes=1 << 20, keep=3)})
    keeper.append("it", b"x" * 99 + b"\n" + b"y" * 3_000_000 + b"\n", 1.0)
    keeper.tend_all(2.0)
    assert sayings.told == []
    assert last_lines(keeper.of("it"), 10)[0] == "x" * 99


@pytest.mark.parametrize("obstacle", ["link", "directory", "pipe"])
def test_what_lies_in_the_way_costs_the_output_and_nothing_else(tmp_path: Path, obstacle: str) -> None:
    """A link is not followed, a pipe is not waited for; the loss is told, and the next log is kept."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    match obstacle:
        case "link":
            (tmp_path / "it.log").symlink_to(victim)
        case "directory":
            (tmp_path / "it.log").mkdir()
        case _:
            os.mkfifo(tmp_path / "it.log")
    sayings = Sayings()
    keeper = LogKeeper(lambda name: tmp_path / f"{name}.log", sayings)
    keeper.configure({"it": SMALL, "other": SMALL})
    for name in ("it", "other", "it"):
        keeper.append(name, b"hello\n", 1.0)
    keeper.tend_all(1.0)
    keeper.tend_all(3.0)
    assert victim.read_text() == "precious"
    assert (tmp_path / "other.log").read_text() == "hello\n"
    [dropped] = [fields for event, fields in sayings.told if event == "child_log.dropped"]
    assert (dropped["subsystem"], dropped["bytes"]) == ("it", 12)
    assert "cannot be written to" in dropped["reason"]
    assert 1 <= len([event for event, _ in sayings.told if event == "child_log.untended"]) <= 2
