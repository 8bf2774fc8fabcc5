"""`epactl usage`, without a daemon."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ledger_world import BOOT, closing, config, flip, opening, stored

from epad.epactl import main
from epad.ledger.store import Ledger
from statemachine.clock import ManualClock


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Of today: three turns of chat, two of agent, and one of agent that is open."""

    async def fill() -> None:
        clock = ManualClock(utc=datetime.fromtimestamp(time.time() - 60, UTC))
        ledger = await Ledger.open(tmp_path / "ledger.db", config(), clock, BOOT)
        for number, name in enumerate(["chat", "chat", "chat", "agent", "agent"]):
            await ledger.open_turn(opening(number, name))
            await ledger.close_turn(closing(number, name, charged_tokens=1_000))
        await ledger.open_turn(opening(9, "agent"))
        await ledger.close()

    asyncio.run(fill())
    return tmp_path


def run(state: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main.main(["usage", *words, "--state", str(state)])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_row_for_each_agent_and_their_sum(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that were charged most first; what open turns may cost is told apart."""
    status, out, err = run(state, capsys)
    assert (status, err) == (0, "")
    since, _, heads, chat, agent, total, _, still = out.splitlines()
    assert since.startswith("since 20")
    assert heads.split() == [
        "AGENT",
        "TURNS",
        "FAILED",
        "REFUSED",
        "OPEN",
        "INPUT",
        "OUTPUT",
        "CHARGED",
        "COST",
    ]
    assert chat.split() == ["chat", "3", "0", "0", "0", "60", "2,940", "3,000", "$0.00"]
    assert agent.split() == ["agent", "2", "0", "0", "1", "40", "1,960", "2,000", "$0.00"]
    assert total.split() == ["sum", "5", "0", "0", "1", "100", "4,900", "5,000", "$0.00"]
    assert still == "open turns may cost up to 100 tokens and $0.00 more"


@pytest.mark.parametrize("by", ["agent", "model", "day"])
def test_json_has_the_rows_the_sum_and_the_time(
    state: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    """Whatever it is told by, the sum is the same."""
    status, out, _ = run(state, capsys, "--by", by, "--since", "1h", "-o", "json")
    told = json.loads(out)
    assert status == 0
    assert told["by"] == by
    assert all(row[by] for row in told["rows"])
    assert (told["total"]["turns"], told["total"]["charged_tokens"], told["total"]["open"]) == (5, 5_000, 1)
    assert datetime.fromisoformat(told["since"]).timestamp() == pytest.approx(time.time() - 3_600, abs=60)


def test_nothing_was_used_since(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A time after all of it; the usual time is a week."""
    status, out, _ = run(state, capsys, "--since", "0s")
    assert status == 0
    assert out.startswith("no turns since ")
    assert run(state, capsys, "--since", "7d")[1].splitlines()[1:] == run(state, capsys)[1].splitlines()[1:]


def test_damage_is_1_and_told(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the rest of the figures, as `ledger show` does."""
    body = stored(state / "ledger.db", 3)[5]
    assert isinstance(body, bytes)
    flip(state / "ledger.db", body, offset=len(body) - 1)
    status, out, err = run(state, capsys, "-o", "json")
    assert status == 1
    assert json.loads(out)["damaged"] == 1
    assert "1 turn(s) with a damaged end count as open; see `epactl ledger verify`" in err


def test_wrong_words_and_no_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2 and 4, as everywhere."""
    assert run(tmp_path, capsys, "--by", "week")[0] == 2
    assert run(tmp_path, capsys, "--since", "yesterday")[0] == 2
    status, _, err = run(tmp_path, capsys)
    assert (status, "there is no ledger" in err) == (4, True)
