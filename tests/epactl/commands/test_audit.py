"""`epactl audit`: rows, filters and formats out of a ledger's files, and what is wrong with them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from audit_world import a_day
from ledger_world import flip

from epad.epactl.commands import audit
from epad.epactl.main import main
from epad.epactl.terminal import Terminal

ALL = ("--since", "1970-01-01")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    asyncio.run(a_day(tmp_path / "ledger.db"))
    return tmp_path


def run(state: Path, *words: str) -> int:
    return main(["audit", *words, "--state", str(state)])


def test_rows_are_lines_that_name_who_and_what(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The id first, by which each can be proved; what was checked goes to stderr."""
    assert run(state, *ALL, "--kind", "order", "--kind", "egress.refused") == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["12", "14", "15"]
    assert "bob [chat]: pause chat: lunch" in printed.out
    assert "records 1 to 16: the chain is unbroken" in printed.err


def test_every_filter_is_an_option(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Together they narrow down."""
    filters = ("--who", "chat", "--subsystem", "chat", "--outcome", "refused", "--format", "jsonl")
    assert run(state, *ALL, *filters) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["details"] == {"host": "evil.example", "port": 443, "why": "not_allowed"}
    assert run(state, *ALL, "--session", "s1", "-o", "jsonl") == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [3, 6, 7, 11]


def test_without_since_it_is_the_last_day(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ledger of these tests is of 1970."""
    assert run(state) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "no records in this time" in printed.err


def test_a_tampered_byte_is_told(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the record's number, on stderr and as the exit status; the other rows are shown."""
    flip(state / "ledger.db", b"pause chat: lunch")
    assert run(state, *ALL, "--kind", "order") == 1
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["15"]
    assert "FAULT: record 14: body" in printed.err


def test_an_id_is_proved(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `ledger prove` does it."""
    assert run(state, "prove", "14") == 0
    assert json.loads(capsys.readouterr().out)["seq"] == 14


@pytest.mark.parametrize(("form", "most"), [("otlp", 1), ("jsonl", 500), ("cef", 500), ("text", 500)])
def test_no_more_than_a_page_is_held(
    state: Path, form: str, most: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line of OTLP has 500 rows, so a page of it is one."""
    pages: list[int] = []
    monkeypatch.setattr(audit, "_lines", lambda form, rows: iter(["x"] * (1_084 + len(list(rows)))))
    monkeypatch.setattr(Terminal, "lines", lambda self, lines: pages.append(len(list(lines))))
    assert run(state, *ALL, "--format", form) == 0
    assert (max(pages), sum(pages)) == (most, 1_100)
