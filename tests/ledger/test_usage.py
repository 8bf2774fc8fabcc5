"""What turns come to: each counted once, by agent, model and day, whatever became of it."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import BOOT, closing, config, flip, opening, stored, turn_id

from epad.ledger import usage
from epad.ledger.entry import CloseTurn
from epad.ledger.query import opening as opened_by
from epad.ledger.query import unclosed_turns
from epad.ledger.record import Outcome, UsageSource
from epad.ledger.rows import open_reader
from epad.ledger.store import Ledger
from epad.ledger.usage import NO_MODEL, Account, Usage, usage_since
from statemachine.clock import ManualClock

DAY = 86_400.0


def refused(number: int, subsystem: str) -> CloseTurn:
    return CloseTurn(turn_id(number), subsystem, Outcome.REFUSED, 0, 0, 0, UsageSource.COUNTED, 402, "budget")


async def fill(path: Path, clock: ManualClock) -> None:
    """Three days: of chat two turns, one of them cut; of agent a refused one and an open one; a day later one more."""
    ledger = await Ledger.open(path, config(), clock, BOOT)
    await ledger.open_turn(opening(1))
    await ledger.close_turn(closing(1))
    clock.advance(DAY)
    await ledger.open_turn(opening(2))
    cut = CloseTurn(
        turn_id(2), "chat", Outcome.CUT, 5, 1, 6, UsageSource.COUNTED, 0, "", charged_microusd=250
    )
    await ledger.close_turn(cut)
    await ledger.close_turn(refused(3, "agent"))
    await ledger.open_turn(opening(4, "agent", reserved_tokens=77))
    clock.advance(DAY)
    await ledger.open_turn(opening(5, "agent"))
    await ledger.close_turn(closing(5, "agent", charged_tokens=40))
    await ledger.close()


def account(path: Path, by: str, since: float = 0.0) -> Account:
    with contextlib.closing(open_reader(path)) as connection:
        return usage_since(connection, int(since * 1e9), by)


CHAT = Usage(turns=2, failed=1, input_tokens=25, output_tokens=11, charged_tokens=36, charged_microusd=250)
AGENT = Usage(
    turns=1, refused=1, open=1, input_tokens=20, output_tokens=20, charged_tokens=40, reserved_tokens=77
)


@pytest.mark.parametrize("page", [1, 2, 4_000])
async def test_usage_by_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """Refused and open turns are counted apart; pages of any size come to the same."""
    monkeypatch.setattr(usage, "STATEMENT_ROWS", page)
    await fill(tmp_path / "ledger.db", ManualClock())
    found = account(tmp_path / "ledger.db", "agent")
    assert found.rows == {"chat": CHAT, "agent": AGENT}
    told = found.as_json("agent")
    assert [row["agent"] for row in told["rows"]] == ["agent", "chat"]
    assert told["total"] == {name: asdict(CHAT)[name] + asdict(AGENT)[name] for name in asdict(CHAT)}


async def test_usage_by_model_knows_a_turn_that_was_never_opened(tmp_path: Path) -> None:
    """Its model nobody wrote down."""
    await fill(tmp_path / "ledger.db", ManualClock())
    rows = account(tmp_path / "ledger.db", "model").rows
    assert rows[NO_MODEL] == Usage(refused=1)
    assert rows["embedded-lexical-defender"].turns == 3
    assert rows["embedded-lexical-defender"].open == 1


async def test_usage_by_day_and_since(tmp_path: Path) -> None:
    """In the order of the days; what ended or was opened before is left out."""
    clock = ManualClock()
    began = clock.utc()
    await fill(tmp_path / "ledger.db", clock)
    told = account(tmp_path / "ledger.db", "day").as_json("day")
    days = [row["day"] for row in told["rows"]]
    assert days[0] == began.date().isoformat()
    assert days == sorted(days)
    assert [row["turns"] for row in told["rows"]] == [1, 1, 1]
    late = account(tmp_path / "ledger.db", "agent", began.timestamp() + 1.5 * DAY)
    assert late.rows == {"agent": Usage(turns=1, input_tokens=20, output_tokens=20, charged_tokens=40)}
    assert account(tmp_path / "ledger.db", "agent", began.timestamp() + 3 * DAY).rows == {}


async def test_a_damaged_end_counts_as_open(tmp_path: Path) -> None:
    """What it cost is not known, so what was reserved is told; and that it is damaged."""
    path = tmp_path / "ledger.db"
    await fill(path, ManualClock())
    body = stored(path, 3)[5]
    assert isinstance(body, bytes)
    flip(path, body, offset=len(body) - 1)
    found = account(path, "agent")
    assert found.damaged == 1
    assert (found.rows["chat"].turns, found.rows["chat"].open, found.rows["chat"].reserved_tokens) == (
        1,
        1,
        100,
    )


async def test_a_turn_that_ends_while_it_is_counted_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was open when the open ones were read, and has ended when the ends are: it is ended."""
    path = tmp_path / "ledger.db"
    await fill(path, ManualClock())
    with contextlib.closing(open_reader(path)) as connection:
        seen_open = [*unclosed_turns(connection), *opened_by(connection, turn_id(1))]
    monkeypatch.setattr(usage, "unclosed_turns", lambda _connection: seen_open)
    assert account(path, "agent").rows == {"chat": CHAT, "agent": AGENT}


COUNTS = st.integers(0, 10**9)
ENDS = st.builds(
    CloseTurn,
    turn=st.just(turn_id(1)),
    subsystem=st.sampled_from(["chat", "agent", "x"]),
    outcome=st.sampled_from(Outcome),
    input_tokens=COUNTS,
    output_tokens=COUNTS,
    charged_tokens=COUNTS,
    usage_source=st.just(UsageSource.USAGE),
    http_status=st.just(200),
    charged_microusd=COUNTS,
)


@given(st.lists(ENDS))
def test_the_rows_add_up_to_the_sum(ends: list[CloseTurn]) -> None:
    """In every column, and none is lost."""
    found = Account()
    for end in ends:
        for place in found.of(end.subsystem):
            place.add_closed(end)  # type: ignore[arg-type]  # has the same fields
    for column in fields(Usage):
        assert sum(getattr(row, column.name) for row in found.rows.values()) == getattr(
            found.total, column.name
        )
    assert found.total.turns + found.total.refused == len(ends)
