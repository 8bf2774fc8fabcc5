"""Results that were too long for their answers: kept for a while, for the session that made them alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from epad.gate.tiers import Tier
from epad.ledger.record import ToolOutcome
from epad.tools import results
from epad.tools.answers import End
from epad.tools.protocol import Caller
from epad.tools.results import KEPT_SECONDS, URI, ResultStore
from epad.tools.sessions import Session
from epad.tools.wire.resources import Content
from epad.tools.wire.result_resources import ResultResources

OURS, OTHERS = "a" * 32, "b" * 32


class Desk:
    """A store, and the time."""

    def __init__(self, folder: Path) -> None:
        self.time = 1_000_000.0
        self.folder = folder / "results"
        self.store = ResultStore(self.folder, lambda: self.time)

    async def keep(self, number: int, whole: bytes = b'"all"', session: str = OURS) -> End:
        end = End(ToolOutcome.DONE, {"text": "a"}, whole=whole)
        kept = await self.store.spilled(Session(session, "chat", Tier.READER), f"{number:032x}", end)
        for path in self.folder.glob(f"*.{number:032x}"):
            os.utime(path, (self.time, self.time))
        self.time += 1
        return kept

    def uris(self, session: str = OURS) -> Sequence[str]:
        return [one.uri for one in self.store.listed(session)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def uri(number: int) -> str:
    return f"{URI}{number:032x}"


async def test_a_cut_result_names_its_whole(desk: Desk) -> None:
    """One that fits is left as it is; the files are the daemon's alone."""
    kept = await desk.keep(1)
    assert (kept.content, kept.whole) == ({"text": "a", "whole": uri(1)}, b"")
    fits = End(ToolOutcome.DONE, {"text": "a"})
    assert await desk.store.spilled(Session(OURS, "chat", Tier.READER), "f" * 32, fits) is fits
    [file] = desk.folder.iterdir()
    assert (stat.S_IMODE(desk.folder.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)


async def test_a_result_is_read_by_its_session_alone(desk: Desk) -> None:
    """Not by another, nor by a name that leads elsewhere; benign twin: its own."""
    await desk.keep(1)
    assert desk.store.read(OURS, uri(1)) == b'"all"'
    assert desk.store.read(OTHERS, uri(1)) is None
    for hostile in (
        f"{URI}../{OURS}.{1:032x}",
        f"{URI}{1:031x}G",
        f"epad://report/{1:032x}",
        URI,
        "",
        f"{uri(1)}\n",
    ):
        assert desk.store.read(OURS, hostile) is None
    assert desk.uris(OTHERS) == []


async def test_a_result_goes_after_an_hour(desk: Desk) -> None:
    """Nobody reads it any more, and the sweep removes its file."""
    await desk.keep(1)
    desk.time += KEPT_SECONDS
    assert desk.store.read(OURS, uri(1)) is None
    await desk.keep(2)
    assert desk.store.sweep(desk.time) == 1
    assert desk.uris() == [uri(2)]


async def test_a_session_has_bounds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its oldest results go; another session's stay."""
    monkeypatch.setattr(results, "SESSION_BYTES", 25)
    await desk.keep(9, b'"12345678"', OTHERS)
    for number in (1, 2, 3):
        await desk.keep(number, b'"12345678"')
    assert desk.uris() == [uri(2), uri(3)]
    assert desk.uris(OTHERS) == [uri(9)]


async def test_a_disk_that_takes_nothing_loses_the_whole_alone(desk: Desk) -> None:
    """The call has done its work; its cut result says that the rest is not kept."""
    desk.folder.write_text("a file in the place of the directory")
    kept = await desk.keep(1)
    assert kept.content == {"text": "a", "whole": "it could not be kept"}


async def test_results_are_resources(desk: Desk) -> None:
    """A text as text, anything else as JSON; listed for its session."""
    resources = ResultResources(desk.store)
    caller, other = Caller("chat", OURS, 0), Caller("chat", OTHERS, 0)
    await desk.keep(1, b'"line\\n"')
    await desk.keep(2, b'{"a":1}')
    assert [one.uri for one in resources.listed(caller)] == [uri(1), uri(2)]
    assert await resources.read(caller, uri(1)) == Content(uri(1), "text/plain", "line\n")
    assert await resources.read(caller, uri(2)) == Content(uri(2), "application/json", '{"a":1}')
    assert await resources.read(other, uri(1)) is None
    assert (resources.listed(other), resources.templates(caller)) == ([], ())
