"""The target of a call as a person reads it, and what a consent for a time is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from epad.tools.target import Target, find_target


def covers(root: Path, **arguments: object) -> str:
    return find(root, arguments).covers.replace(str(root.resolve()), "ROOT")


def place(root: Path, **arguments: object) -> str:
    return find(root, arguments).place.replace(str(root.resolve()), "ROOT")


def find(root: Path, arguments: Mapping[str, object]) -> Target:
    return find_target(arguments, str(root), "d" * 64)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    (made / "build/deep").mkdir(parents=True)
    (made / "a.txt").write_text("a")
    (made / "out").symlink_to(tmp_path)
    (made / "link.txt").symlink_to("a.txt")
    return made


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("a.txt", "ROOT/a.txt"),
        ("build", "ROOT/build (a directory)"),
        ("build/", "ROOT/build (a directory)"),
        ("./build/../a.txt", "ROOT/a.txt"),
        ("link.txt", "ROOT/link.txt (a link to a.txt)"),
        ("no.txt", "ROOT/no.txt (not there)"),
        ("build/deep/..", "ROOT/build (a directory)"),
        (".", "ROOT (a directory)"),
        ("sa\u202efe.txt", "ROOT/sa\\u202efe.txt (not there)"),
    ],
)
def test_a_path_is_shown_as_it_really_is(root: Path, path: str, shown: str) -> None:
    """Without links before its last name, without dots, and with what is there."""
    assert place(root, path=path) == shown


def test_a_path_that_leads_outside_is_shown_there(root: Path) -> None:
    """A link on the way does not hide it; the worker refuses it all the same."""
    assert place(root, path="out/secret.txt") == f"{root.parent.resolve()}/secret.txt (not there)"
    assert place(root, path="../secret.txt") == f"{root.parent.resolve()}/secret.txt (not there)"
    assert place(root, path="/etc/passwd") == "/etc/passwd"


def test_a_consent_for_a_time_covers_a_directory(root: Path) -> None:
    """Not those above or below it, and not with another switch."""
    same = {covers(root, path=path) for path in ("a.txt", "link.txt", "build", "./no.txt")}
    assert same == {"in ROOT"}
    assert covers(root, path="build/x") == "in ROOT/build"
    assert covers(root, path="a.txt", recursive=False) == "in ROOT"
    assert covers(root, path="build", recursive=True) == "in ROOT, recursive"
    assert covers(root, repo=".", name="main", paths=None) == "in ROOT"
    assert covers(root, repo=".", name="main", paths=["a.txt"]) == "in ROOT, paths"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://A.example/x?y", "a.example:443"),
        ("http://a.example:8080", "a.example:8080"),
        ("https://[fd00::1]/", "[fd00::1]:443"),
        ("https://b\u00fccher.example/", "b\u00fccher.example:443"),
    ],
)
def test_a_host_is_shown_with_its_port(root: Path, url: str, shown: str) -> None:
    assert place(root, url=url) == shown
    assert covers(root, url=url, method="POST") == f"at {shown}, method POST"
    assert covers(root, url=url, method="POST") != covers(root, url=url, method="DELETE")


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "https://a.example\\@b.example/"},
        {"url": "https://user@b.example/"},
        {"url": "https://a.example:99999/"},
        {"url": "no address"},
        {"url": 7},
        {"path": "a\0b"},
        {"path": None},
        {"requests": [{"url": "https://a.example"}, {"url": "?"}]},
        {"requests": []},
        {"path": "a/" * 100_000},
        {"repo": "a/" * 100_000},
        {"url": f"https://{'a' * 5_000}.example"},
        {"page": "\u0301" * 5_000},
        {"requests": [{"url": "https://a.example"}] * 101},
        {"path": "a", **{f"switch_{number}": True for number in range(200)}},
        {"image": "alpine", "argv": ["rm"]},
        {},
    ],
)
def test_where_no_target_is_plain_the_consent_is_for_the_very_call(
    root: Path, arguments: dict[str, Any]
) -> None:
    """A text that two programs read in two ways covers nothing but itself, nor does one that no tool takes."""
    assert find(root, arguments) == Target(
        "what its arguments say", f"with these arguments alone ({'d' * 16})"
    )


def test_several_hosts_are_one_target(root: Path) -> None:
    requests = [{"method": "GET", "url": "https://b.example"}, {"method": "post", "url": "https://a.example"}]
    assert covers(root, requests=requests) == "at a.example:443, b.example:443 (GET, POST)"


def test_a_container_is_its_own_target(root: Path) -> None:
    assert covers(root, container="box", argv=["rm", "-r"]) == "on container box"


def test_long_targets_that_are_cut_alike_are_told_apart(root: Path) -> None:
    one, other = (find(root, {"path": f"{'d' * 2_000}/{letter}/{'d' * 2_000}/x"}) for letter in "ab")
    assert one.covers != other.covers
    assert len(one.place) < 400
