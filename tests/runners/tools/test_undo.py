"""Changes that are undone: only where nobody has changed the file since, byte for byte, also after a kill."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tool_process import ToolWorker, tool_worker

from runners.tools import undo
from runners.tools.signature import CONTEXT, CallContext

Tree = dict[str, str]
NAMES = ("a.txt", "b.txt", "c.txt", "d/e.txt", "d/f.txt")
EDITS = int(os.environ.get("EPAD_UNDO_EDITS", "120"))


class Desk:
    """A workspace with a store of before-images, and workers of it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.store = folder / "work", folder / "undo"
        self.calls = 0

    def fresh(self) -> None:
        for path in (self.root, self.store):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        (self.root / "d").mkdir()
        for name in NAMES[:4]:
            (self.root / name).write_text(f"this is {name}\n")

    def worker(self) -> Any:
        return tool_worker("files,search", self.root, "--undo", str(self.store))

    def tree(self) -> Tree:
        return {
            str(path.relative_to(self.root)): path.read_bytes().decode("latin-1") if path.is_file() else "/"
            for path in sorted(self.root.rglob("*"))
        }


def put_back(worker: ToolWorker, call: str, only: str = "") -> dict[str, list[str]]:
    worker.send({"id": 90_000, "undo": call, "only": only, "turn": f"s.undo-{call}"})
    answer = worker.receive()
    assert "error" not in answer, answer
    result: dict[str, list[str]] = answer["result"]
    return {name: paths for name, paths in result.items() if paths}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.fresh()
    return made


@pytest.fixture
def worker(desk: Desk) -> Iterator[ToolWorker]:
    with desk.worker() as opened:
        yield opened


def write(worker: ToolWorker, path: str, content: str, call: str = "s.1") -> None:
    arguments = {"path": path, "content": content, "mode": "replace"}
    assert "error" not in worker.answer("file_write", arguments, turn=call)


def test_a_file_that_was_changed_since_is_left_alone(desk: Desk, worker: ToolWorker) -> None:
    """It is told, and so are those that were put back; benign twin: one that was only looked at."""
    arguments = {"pattern": "this", "replacement": "that", "dry_run": False}
    assert "error" not in worker.answer("search_replace", arguments, turn="s.1")
    (desk.root / "a.txt").write_text("a person was here\n")
    (desk.root / "b.txt").read_text()
    found = put_back(worker, "s.1")
    assert found["changed_since"] == ["a.txt"]
    assert sorted(found["restored"]) == ["b.txt", "c.txt", "d/e.txt"]
    assert (desk.root / "a.txt").read_text() == "a person was here\n"
    assert (desk.root / "b.txt").read_text() == "this is b.txt\n"


def test_a_file_that_was_removed_since_is_left_alone(desk: Desk, worker: ToolWorker) -> None:
    """So is one that a link has taken the place of: what it leads to is not written."""
    write(worker, "a.txt", "new")
    write(worker, "b.txt", "new", "s.2")
    (desk.root / "a.txt").unlink()
    (desk.root / "b.txt").unlink()
    (desk.root / "b.txt").symlink_to("c.txt")
    assert put_back(worker, "s.1") == {"changed_since": ["a.txt"]}
    assert put_back(worker, "s.2") == {"changed_since": ["b.txt"]}
    assert (desk.root / "c.txt").read_text() == "this is c.txt\n"


def test_a_file_that_was_made_is_removed_unless_somebody_has_written_it(
    desk: Desk, worker: ToolWorker
) -> None:
    """And a second undo finds all as it was before."""
    write(worker, "new.txt", "1")
    write(worker, "other.txt", "1", "s.2")
    (desk.root / "other.txt").write_text("mine")
    assert put_back(worker, "s.1") == {"restored": ["new.txt"]}
    assert put_back(worker, "s.1") == {"as_before": ["new.txt"]}
    assert put_back(worker, "s.2") == {"changed_since": ["other.txt"]}


def test_a_link_that_leads_elsewhere_since_is_not_followed(desk: Desk, worker: ToolWorker) -> None:
    """A file of the same content there is not the one that the call made; when the link is gone, it is put back."""
    (desk.root / "made").mkdir()
    write(worker, "made/n.txt", "same")
    (desk.root / "made").rename(desk.root / "aside")
    (desk.root / "other").mkdir()
    (desk.root / "other/n.txt").write_text("same")
    (desk.root / "made").symlink_to("other")
    assert put_back(worker, "s.1") == {"changed_since": ["made/n.txt"]}
    assert (desk.root / "other/n.txt").exists()
    (desk.root / "made").unlink()
    (desk.root / "aside").rename(desk.root / "made")
    assert put_back(worker, "s.1") == {"restored": ["made/n.txt"]}
    assert not (desk.root / "made/n.txt").exists()


def test_a_look_changes_nothing(desk: Desk, worker: ToolWorker) -> None:
    """It tells the same as the undo."""
    write(worker, "a.txt", "new")
    before = desk.tree()
    assert put_back(worker, "s.1", "look") == {"restored": ["a.txt"]}
    assert desk.tree() == before


def test_a_moved_directory_comes_back_with_what_is_in_it(desk: Desk, worker: ToolWorker) -> None:
    """Unless its old name is taken, or something was added to it."""
    assert "error" not in worker.answer("file_move", {"source": "d", "destination": "g"}, turn="s.1")
    (desk.root / "d").mkdir()
    assert put_back(worker, "s.1") == {"changed_since": ["d"]}
    (desk.root / "d").rmdir()
    (desk.root / "g/added").touch()
    assert put_back(worker, "s.1") == {"changed_since": ["d"]}
    (desk.root / "g/added").unlink()
    assert put_back(worker, "s.1") == {"restored": ["d"]}
    assert (desk.root / "d/e.txt").read_text() == "this is d/e.txt\n"


def test_a_file_is_not_moved_onto_itself(desk: Desk, worker: ToolWorker) -> None:
    """Nor onto a hard link to it: the kernel would do nothing, and the record would say that it was moved."""
    os.link(desk.root / "a.txt", desk.root / "same.txt")
    for destination in ("a.txt", "d/../a.txt", "same.txt"):
        assert "same file" in worker.refusal(
            "file_move", source="a.txt", destination=destination, replace=True
        )


def test_the_undo_is_told_as_effects(worker: ToolWorker) -> None:
    """With the hashes, as those of any call."""
    write(worker, "a.txt", "new")
    write(worker, "made.txt", "new", "s.2")
    worker.send({"id": 1, "undo": "s.1", "turn": "s.u"})
    [[path, before, after]] = worker.receive()["effects"]
    assert (path, len(before), len(after)) == ("a.txt", 64, 64)
    worker.send({"id": 2, "undo": "s.2", "turn": "s.v"})
    [[path, before, after]] = worker.receive()["effects"]
    assert (path, after) == ("made.txt", None)


def test_a_full_store_lets_the_call_go_on_and_says_so(desk: Desk, worker: ToolWorker) -> None:
    """The undo leaves what it has nothing of; another session has room of its own."""
    filled = desk.store / "s.0"
    filled.mkdir()
    with (filled / "1").open("wb") as file:
        file.truncate(undo.QUOTA_BYTES)
    answer = worker.answer("file_write", {"path": "a.txt", "content": "x", "mode": "replace"}, turn="s.1")
    assert "full" in answer["result"]["cannot_be_undone"]
    assert put_back(worker, "s.1") == {"not_kept": ["a.txt"]}
    other = worker.answer("file_write", {"path": "b.txt", "content": "x", "mode": "replace"}, turn="t.1")
    assert "cannot_be_undone" not in other["result"]
    assert put_back(worker, "t.1") == {"restored": ["b.txt"]}


def test_names_that_lead_out_of_the_store_are_refused(worker: ToolWorker) -> None:
    """As is one that nothing was kept of."""
    for name in ("never", "../work", "/etc", "s.1/../../work"):
        worker.send({"id": 5, "undo": name})
        assert "no before-images" in worker.receive()["error"]


def test_a_journal_cannot_reach_outside_of_the_workspace(desk: Desk, worker: ToolWorker) -> None:
    """Whoever may write the store runs as the subsystem: its lines are paths like any other's, and no more."""
    secret = desk.root.parent / "secret.txt"
    secret.write_text("secret")
    folder = desk.store / "s.9"
    folder.mkdir()
    lines = [
        {"path": "../secret.txt", "was": "none", "after": "any"},
        {"path": ".git/hooks/pre-commit", "was": "link", "target": "/bin/sh"},
        {"path": "../planted", "was": "directory"},
    ]
    (folder / "journal").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "temporaries").write_text('"../secret.txt"\n"a.txt"\n')
    assert set(put_back(worker, "s.9")) == {"changed_since"}
    assert secret.read_text() == "secret"
    assert not (desk.root.parent / "planted").exists()
    assert (desk.root / "a.txt").exists()


EDIT = st.one_of(
    st.tuples(st.just("file_write"), st.sampled_from(NAMES), st.text("xyz\n", max_size=8)),
    st.tuples(st.just("file_append"), st.sampled_from(NAMES), st.text("xyz\n", min_size=1, max_size=8)),
    st.tuples(st.just("file_copy"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("file_move"), st.sampled_from((*NAMES, "d")), st.sampled_from((*NAMES, "g"))),
    st.tuples(st.just("file_delete"), st.sampled_from((*NAMES, "d")), st.just("")),
    st.tuples(st.just("search_replace"), st.sampled_from("isxy"), st.sampled_from(["", "q", "\n"])),
)


def arguments_of(tool: str, first: str, second: str) -> dict[str, object]:
    match tool:
        case "file_write":
            return {"path": first, "content": second, "mode": "replace"}
        case "file_append":
            return {"path": first, "content": second}
        case "file_copy" | "file_move":
            return {"source": first, "destination": second, "replace": True}
        case "file_delete":
            return {"path": first, "recursive": True}
        case _:
            return {"pattern": first, "replacement": second, "dry_run": False}


@settings(
    max_examples=max(1, EDITS // 12),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # each example starts a worker: to shrink takes minutes
)
@given(edits=st.lists(EDIT, min_size=6, max_size=18))
def test_random_edits_are_undone_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, str, str]]
) -> None:
    """Newest first; EPAD_UNDO_EDITS sets how many (1000 for a campaign). Refused ones have nothing to undo."""
    desk = Desk(tmp_path_factory.mktemp("edits"))
    desk.fresh()
    states, done = [desk.tree()], []
    with desk.worker() as worker:
        for number, edit in enumerate(edits):
            answer = worker.answer(edit[0], arguments_of(*edit), turn=f"s.{number}")
            if (desk.store / f"s.{number}" / "journal").exists():
                done.append(number)
                states.append(desk.tree())
            elif "error" not in answer:
                assert desk.tree() == states[-1]
        for number in reversed(done):
            assert desk.tree() == states.pop()
            found = put_back(worker, f"s.{number}")
            assert set(found) <= {"restored", "as_before"}, (found, edits[number])
        assert desk.tree() == states.pop()


def test_edits_that_are_killed_are_undone_byte_for_byte(desk: Desk) -> None:
    """`kill -9` of the worker at chance moments of a write: either told and undone, or not made; no file is left."""
    chance = random.Random(5)
    before = desk.tree()
    for number in range(max(5, EDITS // 10)):
        content = "x" * chance.randrange(1, 3_000_000)
        with desk.worker() as worker:
            worker.send({
                "id": 1, "tool": "file_write", "turn": f"s.{number}",
                "arguments": {"path": chance.choice(NAMES), "content": content, "mode": "replace"},
            })  # fmt: skip
            worker.receive() if number == 0 else _wait_for_a_file(desk, number, chance)
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
        with desk.worker() as worker:
            if (desk.store / f"s.{number}").exists():
                assert set(put_back(worker, f"s.{number}")) <= {"restored", "as_before", "tidied"}
        assert desk.tree() == before


def _wait_for_a_file(desk: Desk, number: int, chance: random.Random) -> None:
    """Wait until the call has begun to write one of its files, which one is chance."""
    wanted = chance.choice(["temporaries", "journal", ""])
    folder = desk.store / f"s.{number}"
    for _ in range(20_000):
        if (folder / wanted).exists() or any(desk.root.rglob(".epad-*.tmp")):
            return


def test_a_call_notes_a_temporary_file_before_it_is_made(desk: Desk) -> None:
    """So one that a kill leaves is removed by the next look; another file of that name never is."""
    store = os.open(desk.store, os.O_RDONLY | os.O_DIRECTORY)
    CONTEXT.set(CallContext(undo=store, call="s.1"))
    undo.note_temporary("d/.epad-12-0123abcd.tmp")
    undo.note_temporary("a.txt")
    os.close(store)
    (desk.root / "d/.epad-12-0123abcd.tmp").write_text("half")
    with desk.worker() as worker:
        assert put_back(worker, "s.1", "look") == {}
        assert put_back(worker, "s.1", "tidy") == {"tidied": ["d/.epad-12-0123abcd.tmp"]}
    assert (desk.root / "a.txt").exists()
    assert not list(desk.root.rglob(".epad-*"))
