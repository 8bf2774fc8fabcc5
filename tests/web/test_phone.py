"""The pages on a phone, in a real browser: no horizontal scroll, and no text that is cut or outside of the screen."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_operations import FakeOperations, approval, consent, gpu, question, status, subsystem, tool_question

from epad.answers.decisions import Link
from epad.answers.status import Status
from epad.web.page import (
    Detail,
    Overview,
    Questions,
    approvals_page,
    detail_page,
    error_page,
    overview_page,
)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]
STYLE = (Path(__file__).parents[2] / "epad/web/style.css").read_text()
WIDTHS = (390, 320)
LONG = "a_subsystem_with_a_very_long_name_that_no_table_was_made_for"
WORDS = "it asked for " + "http://127.0.0.1:11434/v1/chat/completions/" * 4

# Every piece of text that a person can reach: where it stands, and each box around it that would hide a part of it.
CUT_TEXTS = """
() => {
  const found = [], wide = document.documentElement.clientWidth;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || parent.closest("script, .skip, .quiet, thead, desc, title")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      let left = 0, right = wide;
      for (let above = parent; above; above = above.parentElement) {
        if (getComputedStyle(above).overflowX === "visible") continue;
        const edge = above.getBoundingClientRect();
        left = Math.max(left, edge.left);
        right = Math.min(right, edge.right);
      }
      if (box.left < left - 0.5 || box.right > right + 0.5) found.push(node.data.trim());
    }
  }
  return found;
}
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


def worst_case() -> Status:
    """A status in which everything is long that can be."""
    sentence = {
        "who": LONG,
        "what": "is frozen",
        "since": "03:12",
        "why": WORDS,
        "until": "a person releases it",
        "do": f"epactl release {LONG} --reason TEXT",
        "line": WORDS,
    }
    held = subsystem(
        LONG, state="quarantined", status=WORDS, log=f"/var/lib/epad/logs/{LONG}.log", depends_on=["model", "chat"],
        hold={"rung": "freeze", "reason": WORDS}, sentence=sentence, spent_microusd=12_345_678_901,
        budget={"tokens_per_minute": {"limit": 600_000_000, "used": 150_000_000}},
        progress={"done": 123_456_789, "total": 1_000_000_000},
    )  # fmt: skip
    incident = {
        "root": LONG, "reason": WORDS, "age_seconds": 5.0, "victims": ["chat", LONG], "settled": True, "flapping": True,
    }  # fmt: skip
    anomaly = {
        "id": f"token_burn/{LONG}", "probe": "token_burn", "subsystem": LONG, "severity": "critical",
        "reason": WORDS, "age_seconds": 60.0,
    }  # fmt: skip
    upstream = {
        "name": LONG, "url": WORDS, "healthy": False, "reason": WORDS, "state": "gone", "breaker": "open",
        "seconds": 5.0, "retry_seconds": 1.0, "server": "", "served_by": "",
    }  # fmt: skip
    return status(
        sentence=WORDS, subsystems=[subsystem("model"), subsystem("chat", depends_on=["model"]), held],
        incidents=[incident], anomalies=[anomaly], upstreams=[upstream], gpus=[gpu("0", subsystems={LONG: 5 << 30})],
        notices=[WORDS], budgets={LONG: {"microusd_per_day": {"limit": 5_000_000, "used": 1}}},
    )  # fmt: skip


async def make_pages() -> dict[str, bytes]:
    """Each kind of page, of the worst case."""
    operations, told = FakeOperations(), worst_case()
    operations.happen("turn.refused", LONG, code=LONG, message=WORDS)
    history = (await operations.phase())["history"]
    short = (await operations.explain("wargame"))["chain"]
    long: list[Link] = [{**link, "text": WORDS, "id": f"operation-{LONG}"} for link in short]
    links = [*short, *long]
    host = f"{LONG.replace('_', '-')}.{'x' * 60}.example"
    asked = question(7, subsystem=LONG, host=host, program=WORDS, widens=[WORDS], sent_bytes=1 << 40)
    operations.host_approvals = {
        "questions": [asked, {**asked, "number": 8, "state": "unanswered"}],
        "standing": [approval(host, subsystem=LONG, reason=WORDS, sent_bytes=1 << 40)],
        "always": {},
        "tool_questions": [tool_question(9, subsystem=LONG, asks=WORDS, covers=WORDS, arguments=WORDS * 20)],
        "tool_standing": [consent(9, subsystem=LONG, covers=WORDS, reason=WORDS)],
    }
    return {
        "overview": overview_page(Overview(told, history, operations.stored, operations.host_approvals)),
        "approvals": approvals_page(
            Questions(told, operations.host_approvals, "/run/epad/" + LONG, (WORDS,))
        ),
        "detail": detail_page(
            Detail(told, told["subsystems"][2], links, (LONG,), "/run/epad/" + LONG, (WORDS,))
        ),
        "error": error_page(404, WORDS),
    }


@pytest.fixture(scope="module")
def pages() -> dict[str, bytes]:
    return asyncio.run(make_pages())


@pytest.fixture(scope="module")
def browser(pages: dict[str, bytes]) -> Iterator[Any]:
    """A browser, after the pages: while its own loop turns, no other may."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as api:
        one = api.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield one
        one.close()


def opened(browser: Any, page: bytes, width: int) -> Any:
    """A browser's page with the style in it, as no server is asked here."""
    one = browser.new_page(viewport={"width": width, "height": 844})
    one.set_content(re.sub(r"<link rel=\"stylesheet\"[^>]*>", f"<style>{STYLE}</style>", page.decode()))
    return one


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["overview", "approvals", "detail", "error"])
def test_nothing_is_cut_on_a_phone(browser: Any, pages: dict[str, bytes], kind: str, width: int) -> None:
    """Long names, reasons, addresses and numbers are broken over lines; nothing has to be scrolled to the side."""
    one = opened(browser, pages[kind], width)
    wide, cut = one.evaluate("document.documentElement.scrollWidth"), one.evaluate(CUT_TEXTS)
    text = one.inner_text("body")
    one.close()
    assert cut == []
    assert wide <= width
    assert kind == "error" or LONG in text
