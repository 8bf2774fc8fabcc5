"""Records of tools and sessions: their bytes for ever, their place in the one chain, and their form for others."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ledger_world import closing, flip, open_ledger, opening, stored, turn_id

from epad.ledger.entry import CloseTool, NoteSession, OpenTool
from epad.ledger.errors import LedgerError, RecordError
from epad.ledger.export import records_from, spans_from
from epad.ledger.query import records_of_turn, unclosed_tools, unclosed_turns
from epad.ledger.record import (
    Audited,
    Effect,
    EpochStarted,
    Kind,
    Labelled,
    Outcome,
    Record,
    Repaired,
    Rooted,
    Screened,
    Screening,
    Session,
    ToolClosed,
    ToolOpened,
    ToolOutcome,
    Trimmed,
    TurnClosed,
    TurnOpened,
    UsageSource,
    columns_of,
    decode,
    encode,
)
from epad.ledger.rows import open_reader
from epad.ledger.verify import Verdict, verify

HASH = bytes(range(32))
IN_HEX = HASH.hex()
STAMP: dict[str, Any] = {"wall_ns": 5, "boot_id": "boot", "monotonic_ns": 6, "epoch": 7}
A_TURN = "0" * 32
TURN_IN_HEX = "d920" + "30" * 32

# The bytes as epad wrote them on 2026-11-30. They are on disks: a line here is added, and never changed.
WRITTEN: list[tuple[str, Record]] = [
    (
        f"dc0010cd0201{TURN_IN_HEX}a46368617405a66f70656e6169a16d010203c0c420{IN_HEX}a4626f6f74060704a32f7631",
        TurnOpened(
            turn=A_TURN, subsystem="chat", dialect="openai", model="m", prompt_bound=1, output_cap=2,
            reserved_tokens=3, idempotency_key=None, request_sha256=HASH, reserved_microusd=4, path="/v1", **STAMP,
        ),
    ),
    (
        f"9fcd0202{TURN_IN_HEX}a46368617405a4646f6e65010203a57573616765ccc8a0a4626f6f74060704",
        TurnClosed(
            turn=A_TURN, subsystem="chat", outcome=Outcome.DONE, input_tokens=1, output_tokens=2, charged_tokens=3,
            usage_source=UsageSource.USAGE, http_status=200, reason="", charged_microusd=4, **STAMP,
        ),
    ),
    (
        f"98cd0103c4016ec420{IN_HEX}c305a4626f6f740607",
        EpochStarted(nonce=b"n", previous_link=HASH, clean=True, **STAMP),
    ),
    (
        "99cd01049192010290a163a17305a4626f6f740607",
        Repaired(restored=((1, 2),), lost=(), cause="c", source="s", **STAMP),
    ),
    ("98cd010509c40173a17205a4626f6f740607", Trimmed(through=9, sums=b"s", reason="r", **STAMP)),
    (
        (f"dc0012cd0106{TURN_IN_HEX}a46368617405a966696c655f72656164a2733102a2523101a952312f4e4f524d414c"
        f"c420{IN_HEX}c420{IN_HEX}d920{'31' * 32}a16b08a4626f6f740607"),
        ToolOpened(
            turn=A_TURN, subsystem="chat", tool="file_read", session="s1", tier=2, risk="R1", taint=1,
            row="R1/NORMAL", definition_sha256=HASH, arguments_sha256=HASH, parent="1" * 32, idempotency_key="k",
            reserved_tokens=8, **STAMP,
        ),
    ),
    (
        (f"dc0013cd0107{TURN_IN_HEX}a46368617405aa66696c655f7772697465a27331a4646f6e65a957312f4e4f524d414ca0"
        f"c420{IN_HEX}09039193a3612f62c0c420{IN_HEX}a1750102a4626f6f740607"),
        ToolClosed(
            turn=A_TURN, subsystem="chat", tool="file_write", session="s1", outcome=ToolOutcome.DONE,
            row="W1/NORMAL", reason="", result_sha256=HASH, result_bytes=9, charged_tokens=3,
            effects=(Effect("a/b", None, HASH),), undo="u", cpu_ms=1, wall_ms=2, **STAMP,
        ),
    ),
    (
        f"9fcd0108a27331a46368617405c302a0c420{IN_HEX}a773746172746564a465706164a4626f6f740607a0a0",
        Session(
            session="s1", subsystem="chat", began=True, tier=2, parent="", command_sha256=HASH, reason="started",
            by="epad", **STAMP,
        ),
    ),
    (
        f"9acd010aa27331a46368617405 02{TURN_IN_HEX}aa687474705f6665746368a4626f6f740607".replace(" ", ""),
        Labelled(
            session="s1", subsystem="chat", label=2, turn=A_TURN, source="http_fetch", **STAMP,
        ),
    ),
    (
        (f"9ecd0109ab6f726465722e676976656ea46368617405a3616461aa70617573652063686174a5676976656ea0a27b7d"
        f"c420{IN_HEX}04a4626f6f740607"),
        Audited(
            event="order.given", who="ada", what="pause chat", outcome="given", evidence="{}",
            subsystem="chat", session="", evidence_sha256=HASH, happened_ns=4, **STAMP,
        ),
    ),
    (
        f"9bcd010ba57661756c7403c420{IN_HEX}05a86163636570746564a5756964203091a166a4626f6f740607",
        Rooted(store="vault", size=3, root=HASH, cause="accepted", by="uid 0", accepted=("f",), **STAMP),
    ),
    (
        f"98cd01109195{TURN_IN_HEX}a463686174a661747461636ba9696e6a656374696f6ecd03a303c420{IN_HEX}05a4626f6f740607",
        Screened(
            screenings=(Screening(A_TURN, "chat", "attack", "injection", 931),), version=3, training_sha256=HASH,
            **STAMP,
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "record"), WRITTEN, ids=[type(record).__name__ for _, record in WRITTEN])
def test_bytes_on_disks_are_read_for_ever(text: str, record: Record) -> None:
    """Each kind is read from the bytes of its day, and still written as those."""
    assert decode(1, bytes.fromhex(text)) == record
    assert encode(record).hex() == text


def test_sessions_of_before_they_had_children_are_read_for_ever() -> None:
    """Their bytes end two fields earlier."""
    text = f"9dcd0108a27331a46368617405c302a0c420{IN_HEX}a773746172746564a465706164a4626f6f740607"
    [now] = [record for _, record in WRITTEN if isinstance(record, Session)]
    assert decode(1, bytes.fromhex(text)) == now


def test_every_kind_has_its_bytes_here() -> None:
    """A kind that is added without a line above fails."""
    assert {columns_of(record)[1] for _, record in WRITTEN} == set(Kind)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def tool_opening(number: int, tool: str = "file_read", parent: str = "") -> OpenTool:
    return OpenTool(
        turn=turn_id(number), subsystem="chat", tool=tool, session="s1", tier=2, risk="R1", taint=0,
        row="R1/NORMAL", definition_sha256=HASH, arguments_sha256=HASH, parent=parent,
    )  # fmt: skip


def tool_closing(number: int, outcome: ToolOutcome = ToolOutcome.DONE, tool: str = "file_read") -> CloseTool:
    effects = (Effect("notes/a.txt", None, HASH),) if outcome is ToolOutcome.DONE else ()
    return CloseTool(
        turn=turn_id(number), subsystem="chat", tool=tool, session="s1", outcome=outcome, row="R1/NORMAL",
        result_sha256=HASH, result_bytes=40, effects=effects, cpu_ms=3, wall_ms=4,
    )  # fmt: skip


async def test_tools_stand_in_one_chain_with_models(path: Path) -> None:
    """One ledger has all of them in their order, and it verifies whole."""
    ledger = await open_ledger(path)
    await ledger.note_session(NoteSession("s1", "chat", True, 2, reason="started", by="epad"))
    await ledger.open_turn(opening(1))
    await ledger.open_tool(tool_opening(2, parent=turn_id(1)))
    await ledger.close_tool(tool_closing(2))
    await ledger.close_turn(closing(1))
    await ledger.close()

    report = verify(path, full=True)
    assert (report.verdict, report.checked) == (Verdict.OK, 6)
    with contextlib.closing(open_reader(path)) as connection:
        kinds = [shown.fields()["kind"] for shown in records_from(connection, 1)]
    assert kinds == ["epoch", "session", "opened", "tool_opened", "tool_closed", "closed"]


async def test_a_flipped_bit_of_a_tools_record_is_found(path: Path) -> None:
    """The effect that a tool had cannot be rewritten unseen."""
    ledger = await open_ledger(path)
    await ledger.open_tool(tool_opening(1))
    await ledger.close_tool(tool_closing(1))
    await ledger.close()
    flip(path, b"notes/a.txt")

    assert verify(path).words() == "CORRUPT(3, body)"


async def test_a_tool_without_an_end_is_unknown(path: Path) -> None:
    """After a crash an open record of a tool is found again; it is none of the models' lost turns."""
    ledger = await open_ledger(path)
    await ledger.open_tool(tool_opening(1))
    await ledger.close_tool(tool_closing(1))
    await ledger.open_tool(tool_opening(2, "file_write"))
    await ledger.open_turn(opening(3))
    await ledger.close()
    again = await open_ledger(path)

    assert [record.tool for record in await again.unclosed_tools()] == ["file_write"]
    assert [record.turn for record in await again.lost_turns()] == [turn_id(3)]
    await again.close()
    with contextlib.closing(open_reader(path)) as connection:
        assert [record.turn for record in unclosed_turns(connection)] == [turn_id(3)]
        assert [record.turn for record in unclosed_tools(connection)] == [turn_id(2)]


async def test_an_end_needs_its_own_beginning(path: Path) -> None:
    """A tool is not closed by a model's opening, nor without one; a refused call has nothing but its end."""
    ledger = await open_ledger(path)
    await ledger.open_turn(opening(1))
    with pytest.raises(LedgerError, match="never opened"):
        await ledger.close_tool(tool_closing(9))
    await ledger.close_tool(tool_closing(3, ToolOutcome.REFUSED))
    await ledger.close()
    again = await open_ledger(path)
    with pytest.raises(LedgerError, match="never opened"):
        await again.close_tool(tool_closing(1))
    await again.close()


async def test_a_tool_is_opened_once(path: Path) -> None:
    """A second record of the same turn is refused alone: the others of its batch are written."""
    ledger = await open_ledger(path)
    first, again, other = await asyncio.gather(
        ledger.open_tool(tool_opening(1)),
        ledger.open_tool(tool_opening(1)),
        ledger.open_tool(tool_opening(2)),
        return_exceptions=True,
    )
    await ledger.close()

    assert (first, other) == (2, 3)
    assert "tool_opened already" in str(again)


async def test_no_trace_of_arguments_where_payloads_are_off(path: Path) -> None:
    """`ledger.payloads = "off"` concerns tools as well."""
    ledger = await open_ledger(path, payloads="off")
    await ledger.open_tool(tool_opening(1))
    await ledger.close_tool(tool_closing(1))
    await ledger.close()

    opened, closed = (decode(number, stored(path, number)[5]) for number in (2, 3))
    assert isinstance(opened, ToolOpened)
    assert isinstance(closed, ToolClosed)
    assert (opened.arguments_sha256, closed.result_sha256) == (bytes(32), b"")


async def test_a_refused_ledger_closes_tools_still(path: Path) -> None:
    """While turns are refused, a tool that runs can still be recorded as ended."""
    ledger = await open_ledger(path)
    await ledger.open_tool(tool_opening(1))
    ledger.guard(str, lambda: "no room")
    with pytest.raises(LedgerError, match="no room"):
        await ledger.open_tool(tool_opening(2))
    await ledger.close_tool(tool_closing(1))
    await ledger.close()

    assert verify(path).checked == 3


async def test_other_programs_read_tools_as_json_and_as_spans(path: Path) -> None:
    """Bytes are hex at any depth, and a tool's span hangs below the model's turn that asked for it."""
    ledger = await open_ledger(path)
    await ledger.open_tool(tool_opening(2, parent=turn_id(1)))
    await ledger.close_tool(tool_closing(2, ToolOutcome.TIMED_OUT))
    await ledger.open_tool(tool_opening(3))
    await ledger.close_tool(tool_closing(3))
    await ledger.open_tool(tool_opening(4))
    await ledger.close()

    with contextlib.closing(open_reader(path)) as connection:
        shown = [json.loads(msgspec.json.encode(each.fields())) for each in records_from(connection, 1)]
        spans = list(spans_from(connection))
        of_turn = [type(record) for record in records_of_turn(connection, turn_id(2))]
    assert shown[4]["effects"] == [["notes/a.txt", None, IN_HEX]]
    assert of_turn == [ToolOpened, ToolClosed]
    ended, done, still_open = spans
    assert ended["trace_id"] == turn_id(1)
    assert ended["attributes"]["error.type"] == "timed_out"
    assert "error.type" not in done["attributes"]
    assert still_open["attributes"]["epad.outcome"] == "open"
    assert {span["name"] for span in spans} == {"execute_tool file_read"}


@pytest.mark.parametrize("name", ["definition_sha256", "arguments_sha256"])
def test_a_hash_has_its_32_bytes(name: str) -> None:
    """A record that could not be compared is refused before it is written."""
    with pytest.raises(RecordError, match=f"{name} has 3 bytes"):
        msgspec.structs.replace(tool_opening(1), **{name: b"abc"})
