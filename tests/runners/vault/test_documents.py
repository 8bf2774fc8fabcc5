"""Documents of the vault: versions, tombstones, undo to the byte, and what a search finds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from vault_desk import B, Desk, RefusedError

MORE = {"reason": "r", "order": "o" * 32}


def offered(desk: Desk, data: bytes) -> str:
    return desk.server._documents.versions.offer(data)


def add(desk: Desk, path: str, data: bytes) -> dict[str, Any]:
    return desk.order("vault_add", path=path, sha256=offered(desk, data), **MORE)


def sections(desk: Desk, query: str, **more: Any) -> list[tuple[str, str]]:
    found = desk.ask("vault_search", query=query, **more)["results"]
    return [(one["uri"].removeprefix("epad://vault/"), one["section"]) for one in found]


def test_a_version_is_written_once_and_read_with_its_digest(desk: Desk) -> None:
    """The same bytes again are no change; bytes that were changed are not given out."""
    add(desk, "a.md", b"one")
    assert "already" in add(desk, "a.md", b"one")["sentence"]
    add(desk, "a.md", b"two")
    changes = desk.order("vault_history", path="a.md")["changes"]
    assert [(one["version"], one["kind"]) for one in changes] == [(1, "add"), (2, "add")]
    place = desk.server._documents.versions.path(changes[0]["sha256"])
    assert place.read_bytes() == b"one"
    place.chmod(0o600)
    place.write_bytes(b"three")
    with pytest.raises(RefusedError, match="does not have the bytes"):
        desk.order("vault_show", path="a.md", version=1)
    assert desk.order("vault_show", path="a.md", version=2)["next"] == 0


def test_undo_gives_each_state_back_to_the_byte(desk: Desk) -> None:
    """Of random changes, undone one after another, and across another life of the child."""
    chance, states = random.Random(4), list[bytes | None]()
    states.append(None)
    for number in range(12):
        if states[-1] is not None and chance.random() < 0.3:
            desk.order("vault_retract", path="a.txt", **MORE)
            states.append(None)
        else:
            data = (
                "".join(chance.choices("ab\r\n\té\u200d", k=chance.randrange(1, 60))).encode()
                + b"%d" % number
            )
            add(desk, "a.txt", data)
            states.append(data)
    for expected in reversed(states[:-1]):
        desk.again()
        desk.order("vault_undo", path="a.txt", **MORE)
        newest = desk.server._documents.newest("a.txt")
        assert newest is not None
        shown = desk.server._documents.versions.read(newest.content) if newest.content else None
        assert shown == expected
    with pytest.raises(RefusedError, match="every change is undone"):
        desk.order("vault_undo", path="a.txt", **MORE)


def test_a_session_appends_and_its_labels_go_with_the_text(desk: Desk) -> None:
    """A line of its own; whoever else reads it gets them."""
    add(desk, "log.md", b"first")
    desk.ask("vault_append", path="log.md", text="second", tier=1, taint=1)
    found = desk.ask("vault_get", B, path="log.md", name="epad://vault/log.md")
    assert found["observations"][0]["text"] == "first\nsecond\n"
    assert (found["read"]["taint"], found["read"]["lower"]) == (1, True)
    assert desk.ask("vault_get", path="log.md", name="x", tier=1)["read"]["taint"] == 0


def test_retracted_is_refused_in_words_and_found_no_more(desk: Desk) -> None:
    """And back after an undo."""
    add(desk, "a.md", b"# Disk\nfree the segments")
    assert sections(desk, "segments") == [("a.md", "Disk")]
    desk.order("vault_retract", path="a.md", reason="it is wrong", order="o" * 32)
    assert sections(desk, "segments") == []
    with pytest.raises(RefusedError, match="was retracted: it is wrong"):
        desk.ask("vault_get", path="a.md", name="a")
    with pytest.raises(RefusedError, match="was retracted: it is wrong"):
        desk.ask("vault_whole", path="a.md")
    with pytest.raises(RefusedError, match="was retracted"):
        desk.ask("vault_append", path="a.md", text="more")
    desk.order("vault_undo", path="a.md", **MORE)
    assert sections(desk, "segments") == [("a.md", "Disk")]


def test_a_search_follows_changes_and_takes_no_operators(desk: Desk) -> None:
    """By ids, hashes and hosts as they are written; `path` narrows it."""
    add(
        desk,
        "ti/a.md",
        b"# Sighting\nevil[.]example[.]com dropped d41d8cd98f00b204e9800998ecf8427e, T1059.001",
    )
    add(desk, "b.md", b"# Other\nT1059 in words")
    assert sections(desk, "evil.example.com") == [("ti/a.md", "Sighting")]
    assert sections(desk, "D41D8CD98F00B204E9800998ECF8427E") == [("ti/a.md", "Sighting")]
    assert {path for path, _ in sections(desk, "T1059")} == {"ti/a.md", "b.md"}
    assert sections(desk, "T1059", path="ti/") == [("ti/a.md", "Sighting")]
    assert sections(desk, 'NEAR( " OR * ^') == []
    add(desk, "b.md", b"# Other\nnothing of it")
    assert sections(desk, "T1059") == [("ti/a.md", "Sighting")]
    with pytest.raises(RefusedError, match="has no word"):
        desk.ask("vault_search", query=" .. ")


@pytest.mark.parametrize(
    "path", ["../a.md", "/a.md", "a//b.md", "a.md/", ".a.md", "a", "a.exe", "a\n.md", "x" * 101 + ".md", ""]
)
def test_a_path_that_is_none_is_refused(desk: Desk, path: str) -> None:
    with pytest.raises(RefusedError, match=r"no path of the vault|says no kind"):
        add(desk, path, b"x")
    assert desk.order("vault_list")["documents"] == []


def test_bytes_wait_for_their_row_across_a_kill(desk: Desk, tmp_path: Path) -> None:
    """Placed at the next start where the row is there; never among the versions where it is not."""
    digest = offered(desk, b"waiting")
    versions = desk.server._documents.versions
    assert list(versions.found()) == []
    desk.again()
    assert versions.incoming(digest).exists()
    desk.server._documents.committed = lambda: None  # type: ignore[method-assign] # as if killed behind COMMIT
    desk.order("vault_add", path="a.md", sha256=digest, **MORE)
    assert list(versions.found()) == []
    desk.again()
    assert [name for name, _ in versions.found()] == [f"{digest[:2]}/{digest}"]
    del tmp_path


def test_a_refused_change_leaves_nothing(desk: Desk) -> None:
    """Not a version, though its bytes were offered."""
    with pytest.raises(RefusedError):
        add(desk, "a.json", b"{")
    assert list(desk.server._documents.versions.found()) == []
    with pytest.raises(RefusedError, match="no document"):
        desk.order("vault_retract", path="none.md", **MORE)
