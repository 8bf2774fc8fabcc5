"""The page stands alone, escapes what models said, and shows what was counted."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from wargame_world import counted, disk_is_full, play, world

from runners.wargame.cli import main
from runners.wargame.engine import BANNER
from runners.wargame.report import transcripts
from runners.wargame.report.html import Reading, render
from runners.wargame.report.markdown import render as render_markdown
from runners.wargame.report.transcripts import Said, Transcript
from runners.wargame.store import Store

VOID_TAGS = {"meta", "line", "br", "polyline", "polygon", "circle"}


class Nesting(HTMLParser):
    """Finds tags that are closed in another order than they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID_TAGS:
            assert self.open.pop() == tag


async def played(path: Path, rounds: int = 60) -> Path:
    async with world() as served:
        await play(served, path, rounds=rounds)
    return path


async def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    """Well nested, no script, no address but SVG's none; the banner first, and the headline's k of n on it."""
    report = counted(await played(tmp_path / "w.db"))
    page = render(report, Reading())
    nesting = Nesting()
    nesting.feed(page)
    assert nesting.open == []
    assert "script" not in nesting.seen
    assert not re.search(r"(src|href|url)\s*[=(]", page)
    assert page.index("EMBEDDED ENGINE") < page.index("Catch and false alarm")
    assert BANNER in page
    catch = report.headline.catch
    assert f"{catch.successes}/{catch.trials}" in page
    assert f"({catch.successes}/{catch.trials})" in render_markdown(report) or "too few" in render_markdown(
        report
    )
    assert page.count("<svg") >= 4
    for family in report.analysis.families:
        assert f"<title>{family}: catch " in page


async def test_what_models_wrote_cannot_become_markup(tmp_path: Path) -> None:
    """An attack that is HTML is shown, not run."""
    evil = "<script>alert(1)</script><img src=x onerror=y>"
    vote = Said(evil, evil, evil, 80, evil)
    reading = Reading([Transcript(1, evil, evil, evil, evil, (evil,), (vote,))])
    page = render(counted(await played(tmp_path / "w.db", 4)), reading)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page


async def test_reading_is_sampled_shown_and_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same seed samples the same; what a person has read is counted in the report."""
    path = str(await played(tmp_path / "w.db"))
    store = Store(Path(path), readonly=True)
    run = store.run()
    assert run is not None
    assert transcripts.choose(store, run, "random", 5, 1) == transcripts.choose(store, run, "random", 5, 1)
    disputed = transcripts.load(store, run, transcripts.choose(store, run, "disputed", 100))
    assert disputed
    for one in disputed:
        split = len({said.kind for said in one.votes}) > 1
        assert split or one.outcome in {"miss", "false_alarm"}
    assert transcripts.load(store, run, [10_000]) == []
    store.close()
    assert main(["read", "--store", path, "--number", "3", "--mark"]) == 0
    assert capsys.readouterr().out.count("  1. ") == 3
    assert main(["report", "--store", path, "--html", str(tmp_path / "r.html")]) == 0
    assert "read by a person: 3/60" in capsys.readouterr().out
    assert (tmp_path / "r.html").read_text().count("<details>") > 20
    assert main(["report", "--store", path, "--html", str(tmp_path / "no/r.html")]) == 1
    assert "no/r.html" in capsys.readouterr().err


async def test_a_page_that_cannot_be_written_leaves_the_former_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the night's page was once cut to nothing first."""
    store, page = await played(tmp_path / "w.db", rounds=4), tmp_path / "page.html"
    page.write_text("former")
    disk_is_full(monkeypatch)
    assert main(["report", "--store", str(store), "--html", str(page)]) == 1
    assert f"--html {page}: [Errno 28]" in capsys.readouterr().err
    assert page.read_text() == "former"
