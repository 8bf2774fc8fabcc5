"""`epactl simulate` on a recording in a file, from the command line to what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest
from epad_story import BOOT, Story, at_once, shipped

from epad.control_loop.journal import JOURNAL_SCHEMA
from epad.epactl import main
from epad.simulate.recorder import RECORDING_SCHEMA, Recorder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with the recording of a daemon that has started, and no more."""
    story = Story()
    recorder = Recorder(story.database, story.clock, BOOT)
    recorder.started(shipped(), at_once(story.journal.load()))
    file = apsw.Connection(str(tmp_path / "state.db"))
    file.execute(JOURNAL_SCHEMA + RECORDING_SCHEMA)
    file.executemany("INSERT INTO recording(utc, at, began, record) VALUES (?, ?, ?, ?)", recorder.take())
    file.close()
    return tmp_path


def test_a_replay_says_what_it_read(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First of all, and to a program too."""
    words = ["simulate", "--state", str(state), "--since", "2001-01-01"]
    assert main.main(words) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{state}/state.db"
    assert main.main([*words, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["recording"] == f"{state}/state.db"


def test_a_time_after_the_last_record_is_told(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No range that ends before it begins, and no verdict about nothing."""
    assert main.main(["simulate", "--state", str(state), "--since", "2999-01-01"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        "nothing was recorded since 2999-01-01T00:00:00" in err
        or "nothing was recorded since 2998-12-31" in err
    )
