"""Memory: versions, tombstones, relations; a session sees its own, and what a person has promoted where it may."""

from __future__ import annotations

from typing import Any

import pytest
from vault_desk import B, Desk, RefusedError

from runners.vault.memory import ANSWER_BYTES

BUILD = "make test runs the tests in two minutes"


def test_a_text_is_found_by_its_name_and_by_its_words(desk: Desk) -> None:
    """With its version, its type and where it comes from."""
    assert desk.remember("build", BUILD, kind="fact")["version"] == 1
    got = desk.ask("memory_get", name="build")

    assert got["entity"] == {"name": "build", "type": "fact", "version": 1, "source": "this session"}
    assert [one["text"] for one in got["observations"]] == [BUILD]
    assert desk.found("testing minutes") == [BUILD]
    assert desk.found("build") == [BUILD]
    assert desk.found("nothing of this") == []


def test_what_fits_best_comes_first(desk: Desk) -> None:
    """Whatever the order in which it was stored: a rare word counts more than a common one, and two more than one."""
    for number in range(30):
        desk.remember(f"other {number}", f"the build number {number} is green")
    desk.remember("one", "the build wants postgres")
    desk.remember("both", "the green build needs postgres and redis")
    scores = [
        one["score"] for one in desk.ask("memory_search", query="build with redis and postgres")["results"]
    ]

    assert desk.found("build with redis and postgres")[:2] == [
        "the green build needs postgres and redis",
        "the build wants postgres",
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[1] > scores[2]


def test_storing_again_is_a_new_version(desk: Desk) -> None:
    """The old one is kept, and counts no more."""
    desk.remember("build", BUILD)
    assert desk.remember("build", "ninja replaced make")["version"] == 2
    texts = [one["text"] for one in desk.ask("memory_get", name="build")["observations"]]

    assert texts == ["ninja replaced make"]
    assert desk.found("minutes") == []
    assert desk.store.one("SELECT count(*) FROM observations") == 2


def test_the_same_text_is_folded(desk: Desk) -> None:
    """Of the same name: the same row; case, signs and spaces make no other text."""
    first = desk.remember("build", BUILD)
    head = desk.store.head()
    again = desk.remember("build", f"  {BUILD.upper()}!")

    assert (again["id"], again["version"]) == (first["id"], 1)
    assert desk.store.head() == head


def test_observations_stand_beside_the_content(desk: Desk) -> None:
    """The newest first; the same one twice is one."""
    desk.remember("build", BUILD)
    first = desk.ask("memory_observe", entity="build", content="it failed on Monday")["id"]
    assert desk.ask("memory_observe", entity="build", content="It failed on Monday.")["id"] == first
    texts = [one["text"] for one in desk.ask("memory_get", name="build")["observations"]]

    assert texts == ["it failed on Monday", BUILD]


def test_relations_are_followed_to_a_depth(desk: Desk) -> None:
    """Each once, also in a circle; the same relation twice is one row."""
    for name in ("a", "b", "c"):
        desk.remember(name, f"the text of {name}")
    for source, target in (("a", "b"), ("b", "c"), ("c", "a")):
        desk.ask("memory_relate", source=source, relation="needs", target=target)
    same = [desk.ask("memory_relate", source="a", relation="needs", target="b")["id"] for _ in range(2)]

    assert same == [1, 1]
    assert desk.ask("memory_get", name="a", depth=0)["relations"] == []
    near = desk.ask("memory_get", name="a", depth=1)["relations"]
    assert {(one["from"], one["to"]) for one in near} == {("a", "b"), ("c", "a")}
    assert len(desk.ask("memory_get", name="a", depth=3)["relations"]) == 3


def test_a_tombstone_hides_and_erases_nothing(desk: Desk) -> None:
    """Its reason stays; the name may be used again, with another type, and its old links stay hidden."""
    desk.remember("build", BUILD)
    desk.remember("gcc", "the compiler is gcc 12")
    desk.ask("memory_relate", source="build", relation="uses", target="gcc")
    assert desk.ask("memory_delete", name="build", reason="it has moved")["retracted"] == 2

    assert desk.names() == ["gcc"]
    assert desk.found("minutes") == []
    assert desk.ask("memory_get", name="gcc")["relations"] == []
    assert desk.store.one("SELECT reason FROM retractions") == "it has moved"
    assert desk.store.one("SELECT content FROM observations WHERE id = 1") == BUILD
    desk.remember("build", BUILD)
    assert desk.found("minutes") == [BUILD]
    assert desk.ask("memory_get", name="build")["relations"] == []


def test_a_list_has_pages(desk: Desk) -> None:
    """Of one type, if it is asked for; the last page has no next."""
    for number in range(5):
        desk.remember(f"n{number}", f"fact number {number}", kind="fact" if number % 2 else "note")
    first = desk.ask("memory_list", limit=2)
    rest = desk.ask("memory_list", limit=3, cursor=first["next"])

    assert [one["name"] for one in first["entities"] + rest["entities"]] == ["n0", "n1", "n2", "n3", "n4"]
    assert rest["next"] == ""
    assert desk.names(kind="fact") == ["n1", "n3"]


@pytest.mark.parametrize(
    ("tool", "arguments", "error", "hint"),
    [
        ("memory_get", {"name": "nope"}, "no memory named 'nope'", "memory_list"),
        ("memory_delete", {"name": "nope", "reason": "r"}, "no memory named 'nope'", "memory_list"),
        ("memory_observe", {"entity": "nope", "content": "x"}, "no memory named 'nope'", "memory_list"),
        ("memory_store", {"name": "a\u202eb", "content": "x"}, "hidden characters", "letters"),
        ("memory_store", {"name": " ", "content": "x"}, "is no name", "letters"),
        ("memory_store", {"name": "a", "content": "  "}, "the text is empty", "words"),
        (
            "memory_store",
            {"name": "build", "content": "new", "kind": "fact"},
            "is a note already",
            "another name",
        ),
        ("memory_search", {"query": "!!"}, "has no word", "words"),
    ],
)
def test_a_refusal_names_the_thing_and_the_fix(
    desk: Desk, tool: str, arguments: dict[str, Any], error: str, hint: str
) -> None:
    """And nothing is written."""
    desk.remember("build", BUILD)
    head = desk.store.head()
    with pytest.raises(RefusedError, match=error) as refused:
        desk.ask(tool, **arguments)
    assert hint in refused.value.hint
    assert desk.store.head() == head


def test_an_answer_is_bounded(desk: Desk) -> None:
    """The oldest texts are left out, whatever characters they have."""
    desk.remember("log", "the log of the build")
    for number in range(20):
        desk.ask("memory_observe", entity="log", content=f"{number} " + "\x01é" * 3000)
    got = desk.ask("memory_get", name="log")

    assert 0 < len(got["observations"]) < 20
    assert sum(6 * len(one["text"]) for one in got["observations"]) < 2 * ANSWER_BYTES


def test_a_query_is_words_and_no_expression(desk: Desk) -> None:
    """What FTS5 would take for an operator or a column is searched for as words."""
    desk.remember("sql", "NEAR and NOT are operators of a query, scope is a column")
    for query in ('scope : "xshared"', "operators NOT column", 'a" OR text : "b', "operators*", "^column"):
        desk.ask("memory_search", query=query)
        desk.ask("memory_search", B, query=query)
        assert desk.found(query, B) == []
    assert desk.found("NEAR operators")


def test_prompts_are_kept_with_their_versions(desk: Desk) -> None:
    """Under a name; the newest text counts."""
    desk.ask("prompt_library", name="review", save="Review $diff")
    [saved] = desk.ask("prompt_library", name="review", save="Review this: $diff")["prompts"]

    assert saved == {"name": "review", "text": "Review this: $diff", "source": "this session"}
    assert desk.ask("prompt_library")["prompts"] == [saved]
    assert desk.ask("prompt_library", B)["prompts"] == []
    with pytest.raises(RefusedError, match="no prompt 'other'"):
        desk.ask("prompt_library", name="other")
    with pytest.raises(RefusedError, match="under a name"):
        desk.ask("prompt_library", save="x")
