"""Tools of text, with patterns and texts that take for ever; each has a twin that works."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_process import World

from runners.tools import differences, regexes, text

CATASTROPHES = [
    ("(a+)+$", "a" * 50_000 + "b"),
    ("(.*)*(.*)*(.*)*x", "a" * 50_000),
    ("(x+x+)+y", "x" * 50_000),
]


@pytest.mark.parametrize(("pattern", "subject"), CATASTROPHES)
def test_a_catastrophic_pattern_is_answered(world: World, pattern: str, subject: str) -> None:
    """RE2 takes time that grows with the text alone."""
    assert world.worker("regex_match", pattern=pattern, text=subject) == {"matches": []}
    assert world.worker("regex_replace", pattern=pattern, replacement="", text="none")["count"] == 0


def test_a_pattern_that_only_re_takes_is_killed_when_it_hangs(world: World) -> None:
    """Look-around and back-references; the twin that ends is answered."""
    answer = world.worker.answer(
        "regex_match", {"pattern": r"(?!y)(a+)+$", "text": "a" * 60 + "b"}, timeout=1
    )
    assert answer["ended"] == "timeout"
    found = world.worker("regex_match", pattern=r"(\w)\1", text="aabbc")["matches"]
    assert [each["groups"] for each in found] == [["aa", "a"], ["bb", "b"]]


def test_without_re2_patterns_go_to_re(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain install has no RE2."""
    monkeypatch.setattr(regexes, "_RE2", None)
    assert regexes.compiled("A+", "i").search("xaa").span() == (1, 3)


@pytest.mark.parametrize(
    ("pattern", "flags", "said"),
    [
        ("(", "", "pattern is wrong"),
        ("a", "q", "unknown flags"),
        ("a" * 10_001, "", "characters"),
        ("a{2,1}", "", "wrong"),
    ],
)
def test_a_wrong_pattern_is_told(world: World, pattern: str, flags: str, said: str) -> None:
    """With the fix."""
    assert said in world.worker.refusal("regex_match", pattern=pattern, flags=flags, text="a")


def test_matches_have_places_in_characters(world: World) -> None:
    """Also behind characters of several bytes; groups that took no part are null."""
    found = world.worker("regex_match", pattern="(B)|(c)", flags="i", text="üüb c", limit=1)
    assert found["matches"] == [{"start": 2, "end": 3, "groups": ["b", "b", None]}]
    assert world.worker("regex_replace", pattern="(?P<n>b)", replacement=r"<\g<n>>", text="ab") == {
        "text": "a<b>",
        "count": 1,
    }
    assert "replacement is wrong" in world.worker.refusal(
        "regex_replace", pattern="b", replacement=r"\2", text="ab"
    )


def test_a_difference_of_many_lines_is_still_told(world: World) -> None:
    """Difflib would take for ever: one block stands for all."""
    a = "".join(f"{number % 7}{number % 11}\n" for number in range(30_000))
    b = "".join(f"{number % 5}{number % 13}\n" for number in range(30_000))
    assert 0 <= world.worker("text_diff", a=a, b=b)["ratio"] < 1
    assert world.worker("text_diff", a=a, b=a) == {"diff": "", "ratio": 1.0}


def test_the_block_names_the_right_lines() -> None:
    """Between the common beginning and the common end."""
    a = [f"{number}\n" for number in range(3000)]
    b = [*a[:1500], "new\n", *a[1501:]]
    diff, ratio = differences.unified("".join(a), "".join(b), context=1)
    assert diff == "--- a\n+++ b\n@@ -1500,3 +1500,3 @@\n 1499\n-1500\n+new\n 1501\n"
    assert ratio == round(2999 / 3000, 4)
    assert differences.unified("a", "b")[0].count("No newline") == 2


@given(st.binary(max_size=200))
def test_base64_is_what_it_was(data: bytes) -> None:
    """Encoded and decoded again, in both alphabets."""
    encoded = base64.urlsafe_b64encode(data).decode()
    assert base64.b64decode(base64.b64encode(data)) == base64.urlsafe_b64decode(encoded)


def test_base64_is_converted(world: World) -> None:
    """Text and bytes; what is not base64 is refused."""
    assert world.worker("base64_convert", bytes="00ff") == {"text": "AP8="}
    assert world.worker("base64_convert", text="AP8", direction="decode") == {"bytes": "00ff"}
    assert world.worker("base64_convert", text="_-8=", direction="decode") == {"bytes": "ffef"}
    for arguments in (
        {"text": "a*b=", "direction": "decode"},
        {"bytes": "0g"},
        {},
        {"text": "a", "bytes": "00"},
    ):
        world.worker.refusal("base64_convert", **arguments)


def test_data_and_files_are_hashed(world: World) -> None:
    """A FIFO or a path outside is not; both at once neither."""
    content = (world.root / "notes.txt").read_bytes()
    assert world.worker("hash_data", path="notes.txt")["hex"] == hashlib.sha256(content).hexdigest()
    assert world.worker("hash_data", data="x", algorithm="md5")["hex"] == "9dd4e461268c8034f5c8564e155c67a6"
    for arguments in (
        {"path": "../secret.txt"},
        {"path": "x", "data": "x"},
        {},
        {"data": "x", "algorithm": "crc"},
    ):
        world.worker.refusal("hash_data", **arguments)


@given(st.text(max_size=300), st.sampled_from(["tokens", "lines", "sentences"]), st.integers(1, 20))
def test_parts_joined_are_the_text(subject: str, by: str, size: int) -> None:
    """Nothing is lost between parts."""
    parts = list(text.parts_of(subject, by, size))
    assert "".join(parts) == subject


@given(st.text(max_size=300))
def test_an_estimate_lies_between_its_bounds(subject: str) -> None:
    """And an empty text has none."""
    tokens = text.tokens_of(subject)
    assert 0 <= tokens <= max(len(subject.encode("utf-8", errors="surrogatepass")), 0)


@pytest.mark.parametrize(
    ("operation", "given_text", "expected"),
    [
        ("snake", "helloWorld Again", "hello_world_again"),
        ("camel", "hello_world", "helloWorld"),
        ("pascal", "hello-world", "HelloWorld"),
        ("slug", "Crème brûlée!", "creme-brulee"),
        ("visible", "a\u202eb\x1b[31m\U000e0041\n", "a\\u{202e}b\\u{1b}[31m\\u{e0041}\n"),
        ("nfc", "e\u0301", "é"),
        ("unique_lines", "b\na\nb\n", "b\na\n"),
        ("camel", "", ""),
    ],
)
def test_a_text_is_transformed(world: World, operation: str, given_text: str, expected: str) -> None:
    """Also an empty one, and hidden characters."""
    assert world.worker("string_transform", text=given_text, operation=operation) == {"text": expected}


@pytest.mark.parametrize(
    ("tool", "more"), [("regex_replace", {"text": "ab"}), ("search_replace", {"dry_run": False})]
)
def test_a_replacement_that_ends_in_a_backslash_is_refused(
    world: World, tool: str, more: dict[str, object]
) -> None:
    r"""Written as \\ it is a backslash."""
    assert "replacement is wrong" in world.worker.refusal(tool, pattern="o|a", replacement="\\", **more)
    assert world.worker(tool, pattern="o|a", replacement=r"\\", **more)
