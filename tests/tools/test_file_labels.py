"""Files that labelled sessions have written: who reads them gets their labels, also in another life of the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from epad.gate.tool_table import BOTH, Taint
from epad.ledger.record import Effect
from epad.storage.database import Database
from epad.tools import file_labels
from epad.tools.file_labels import FILE_LABEL_SCHEMA, FileLabel, FileLabels

HASH, NONE = b"\1" * 32, FileLabel(Taint.NONE, "")
A = FileLabel(Taint.UNTRUSTED, "a" * 32)


@dataclass
class Scene:
    root: str
    database: Database
    files: FileLabels

    async def wrote(
        self, *paths: str, label: FileLabel = A, tool: str = "file_write", **arguments: str
    ) -> None:
        effects = [Effect(path, None, HASH) for path in paths]
        await self.files.written(self.root, tool, arguments, effects, label)

    async def labels(self, tool: str, content: str = "", **arguments: object) -> Taint:
        found = await self.files.read(self.root, tool, arguments, {"text": content})
        return Taint.NONE if found is None else found[1].taint

    async def again(self) -> None:
        """Begin another life."""
        self.files = FileLabels(self.database, structlog.get_logger())
        await self.files.load()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    (tmp_path / "work").mkdir()
    database = Database(tmp_path / "state.db", FILE_LABEL_SCHEMA)
    await database.open()
    files = FileLabels(database, structlog.get_logger())
    await files.load()
    yield Scene(str(tmp_path / "work"), database, files)
    await database.close()


async def test_a_reader_of_the_file_gets_its_labels(scene: Scene) -> None:
    """By its path, however that is written; of another file none."""
    await scene.wrote("docs/offer.md")
    for path in ("docs/offer.md", "docs/../docs/./offer.md", f"{scene.root}/docs/offer.md"):
        assert await scene.labels("file_read", path=path) == Taint.UNTRUSTED
    assert await scene.labels("file_read", path="docs/offer") is Taint.NONE
    assert await scene.labels("file_read", path="other.md", content="docs/offer.md") is Taint.NONE


async def test_a_link_to_the_file_is_the_file(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "work" / "docs").mkdir()
    (tmp_path / "work" / "docs" / "offer.md").touch()
    (tmp_path / "work" / "link").symlink_to("docs/offer.md")
    await scene.wrote("docs/offer.md")
    assert await scene.labels("file_read", path="link") == Taint.UNTRUSTED


async def test_a_folder_counts_where_the_result_names_the_file(scene: Scene) -> None:
    """A search that has found nothing in it has read nothing of it, as far as the agent knows."""
    await scene.wrote("docs/offer.md", 'docs/a "b".md')
    assert await scene.labels("grep_recursive", "docs/offer.md:1: hello", pattern="x") == Taint.UNTRUSTED
    assert (
        await scene.labels("grep_recursive", "offer.md:1: hello", pattern="x", path="docs") == Taint.UNTRUSTED
    )
    assert await scene.labels("grep_recursive", 'a "b".md:1', pattern="x", path="docs") == Taint.UNTRUSTED
    assert await scene.labels("grep_recursive", "src/main.py:1: hello", pattern="x") is Taint.NONE
    assert await scene.labels("git_log", "docs/offer.md | 1 +") == Taint.UNTRUSTED
    for tool in ("zip_create", "file_copy"):
        assert await scene.labels(tool, "done", paths=["docs"], source="docs") == Taint.UNTRUSTED


async def test_who_only_writes_reads_nothing(scene: Scene) -> None:
    await scene.wrote("a.md")
    for tool in ("file_write", "file_append", "file_delete", "file_stat"):
        assert await scene.labels(tool, path="a.md") is Taint.NONE


async def test_a_clean_session_that_writes_it_anew_takes_the_label_off(scene: Scene) -> None:
    """One that only appends to it does not, nor one that is labelled; its removal does."""
    await scene.wrote("a.md", "b.md")
    await scene.wrote("a.md", label=NONE, tool="file_append")
    assert await scene.labels("file_read", path="a.md") == Taint.UNTRUSTED
    await scene.wrote("a.md", label=NONE)
    assert await scene.labels("file_read", path="a.md") is Taint.NONE
    await scene.files.written(scene.root, "file_delete", {}, [Effect("b.md", HASH, None)], NONE)
    assert await scene.labels("file_read", path="b.md") is Taint.NONE
    await scene.again()
    assert await scene.labels("file_read", path="a.md") is Taint.NONE


async def test_a_folder_that_is_moved_takes_its_labels_along(scene: Scene) -> None:
    await scene.wrote("docs/deep/offer.md")
    await scene.wrote("new", label=A, tool="file_move", source="docs", destination="new")
    assert await scene.labels("file_read", path="new/deep/offer.md") == Taint.UNTRUSTED


async def test_labels_survive_the_daemon(scene: Scene) -> None:
    """The last of a file; of several files the one with the most labels is told."""
    await scene.wrote("a.md")
    await scene.wrote("b.md", label=FileLabel(BOTH, "b" * 32))
    await scene.again()
    assert await scene.labels("file_read", path="a.md") == Taint.UNTRUSTED
    assert await scene.labels("grep_recursive", "a.md b.md", pattern="x") == BOTH


async def test_there_is_an_end_to_what_is_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first."""
    monkeypatch.setattr(file_labels, "MOST_FILES", 3)
    for number in range(5):
        await scene.wrote(f"{number}.md", label=FileLabel(Taint.UNTRUSTED, f"{number:032x}"))
    for _ in range(2):
        read = [await scene.labels("file_read", path=f"{number}.md") for number in range(5)]
        assert read == [Taint.NONE] * 2 + [Taint.UNTRUSTED] * 3
        await scene.again()


async def test_without_a_workspace_there_are_no_files(scene: Scene) -> None:
    await scene.wrote("a.md")
    assert await scene.files.read("", "file_read", {"path": "a.md"}, {}) is None
    assert await scene.labels("file_read", path="x\0y") is Taint.NONE
    assert await scene.labels("file_read", path=7) is Taint.NONE
