"""The report: each number is an independent count over the export, and nothing in it is run or obeyed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from audit_world import a_day, noted
from ledger_world import flip, open_ledger, places

from epad.audit.integrity import AuditFile, Integrity
from epad.audit.reading import Wanted
from epad.audit.report import MOST_KEYS, OTHERS, Report, as_json, report_of
from epad.audit.report_page import as_html, as_markdown
from epad.epactl.main import main
from epad.ledger.rows import open_reader


@pytest.fixture
def state(tmp_path: Path) -> Path:
    asyncio.run(a_day(tmp_path / "ledger.db"))
    return tmp_path


def made(state: Path) -> tuple[Report, Integrity]:
    path = state / "ledger.db"
    with contextlib.closing(open_reader(path)) as connection:
        audit = AuditFile(connection, places(path).anchor)
        report = report_of(audit.rows(Wanted()), "then", "now")
        return report, audit.integrity()


def exported(state: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main(["audit", "--since", "1970-01-01", "--format", "jsonl", "--state", str(state)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_numbers_are_those_of_an_independent_count(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counted over the JSON lines, by nothing that the report uses."""
    lines = exported(state, capsys)
    assert main(["audit", "report", "--since", "1970-01-01", "-o", "json", "--state", str(state)]) == 0
    report = json.loads(capsys.readouterr().out)

    assert report["records"] == len(lines)
    kinds = Counter((line["kind"], line["outcome"]) for line in lines)
    assert {tuple(row["key"]): row["count"] for row in report["kinds"]} == kinds
    moved = [line for line in lines if line["event"] == "egress.closed"]
    assert sum(row["sent_bytes"] for row in report["hosts"]) == sum(
        line["details"]["sent_bytes"] for line in moved
    )
    assert sum(row["received_bytes"] for row in report["hosts"]) == 50_000
    turns = [line for line in lines if line["event"] == "turn.closed"]
    assert sum(row["charged_tokens"] for row in report["turns"]) == sum(
        line["details"]["charged_tokens"] for line in turns
    )
    assert report["orders"] == sum(line["event"] == "order.ended" for line in lines)
    assert report["answers"] == sum(line["event"] == "answer.ended" for line in lines)
    refused = Counter(line["who"] for line in lines if line["outcome"] == "refused")
    assert sum(row["count"] for row in report["refusals"]) == refused.total() == 2
    ids = {line["id"] for line in lines}
    for table in (
        value for value in report.values() if isinstance(value, list) and value and "ids" in value[0]
    ):
        assert all(set(row["ids"]) <= ids for row in table)


class Page(HTMLParser):
    """Collects the tags of a page, and the ids in the last cells of its rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_a_page_has_nothing_that_runs(tmp_path: Path) -> None:
    """Names of agents, hosts and reasons are text, in HTML and in Markdown."""
    path = tmp_path / "ledger.db"
    ledger = await open_ledger(path, places(path))
    evil = "<script>alert(1)</script>|`x`[a](javascript:b)\n\x1b[31m"
    await ledger.note_audit(noted("order.ended", evil, "refused", evil, subsystem=evil))
    await ledger.note_audit(
        noted("egress.closed", evil, "closed", evil, subsystem=evil, evidence={"host": evil})
    )
    await ledger.close()
    report, integrity = made(tmp_path)
    page = as_html(report, integrity, evil)
    parsed = Page(page)
    assert not {"script", "img", "a", "link", "iframe"} & parsed.tags.keys()
    assert parsed.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class"}
    assert parsed.open == []
    text = as_markdown(report, integrity, evil)
    assert "<script>" not in page + text
    assert "\x1b" not in page + text
    for line in text.splitlines():
        if line.startswith("| "):
            assert (
                len(re.findall(r"(?<!\\)\|", line))
                == len(re.findall(r"(?<!\\)\|", line.replace(evil, "")))
                >= 3
            )


def test_the_page_names_who_what_and_the_records(state: Path) -> None:
    """Ids stand beside every number."""
    report, integrity = made(state)
    page, text = as_html(report, integrity, "box"), as_markdown(report, integrity, "box")
    for words in ("Who consented to what", "approve 7: chat may", "ada", "evil.example:443", "pause chat"):
        assert words in page
        assert words.replace("_", "\\_") in text
    assert "the chain is unbroken" in page
    assert "<td class=n>1,200</td><td class=n>50,000</td>" in page


def test_a_tampered_ledger_is_told_at_the_top(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And by the exit status."""
    flip(state / "ledger.db", b"pause chat: lunch")
    to = state / "report.html"
    assert main(["audit", "report", "--since", "1970-01-01", "--to", str(to), "--state", str(state)]) == 1
    assert (
        "<div class=bad><p class=note>15 records of this time.</p><p class=note>FAULT: record 14"
        in to.read_text()
    )


def test_markdown_is_chosen_by_the_files_name(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = state / "report.md"
    assert main(["audit", "report", "--since", "1970-01-01", "--to", str(to), "--state", str(state)]) == 0
    assert to.read_text().startswith("# epad on ")


async def test_uses_of_secrets_are_by_name(tmp_path: Path) -> None:
    """Which secret, by whom, how often; its value is nowhere to begin with."""
    path = tmp_path / "ledger.db"
    ledger = await open_ledger(path, places(path))
    for who in ("chat", "chat", "epad"):
        evidence = {"secret": "git", "host": "git.example"}
        await ledger.note_audit(noted("secret.used", who, "used", "git: git.example", evidence=evidence))
    await ledger.close()
    report, _ = made(tmp_path)
    assert {key: one.count for key, one in report.secrets.rows.items()} == {
        ("git", "chat", "secret.used"): 2,
        ("git", "epad", "secret.used"): 1,
    }


async def test_very_many_hosts_are_a_bounded_table(tmp_path: Path) -> None:
    """What is beyond is summed up in one row, and no byte is left out."""
    path = tmp_path / "ledger.db"
    ledger = await open_ledger(path, places(path))
    for number in range(MOST_KEYS + 50):
        evidence = {"host": f"h{number}.example", "port": 443, "sent_bytes": 2, "received_bytes": 3}
        ledger.note_audit(noted("egress.closed", "chat", "closed", "h", subsystem="chat", evidence=evidence))
    await ledger.close()
    report, integrity = made(tmp_path)
    assert len(report.hosts.rows) == MOST_KEYS + 1
    assert report.hosts.rows[OTHERS, ""].count == 50
    assert report.hosts.total("sent_bytes") == 2 * (MOST_KEYS + 50)
    assert as_json(report, integrity)["records"] == MOST_KEYS + 51
