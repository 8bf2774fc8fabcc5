"""Somebody else's JSON: read where anybody could, and what an error in any shape says."""

from __future__ import annotations

import math
from typing import Any

import pytest

from epad.gateway.dialects import loose


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": [1, "b", null, true]}', {"a": [1, "b", None, True]}),
        (b"null", None),
        (b" null\n", None),
        (b"", None),
        (b"{", None),
        (b"no", None),
        (b"7", 7),
        (b'{"a": Infinity, "b": -Infinity}', {"a": math.inf, "b": -math.inf}),
        (b'{"a": "\\ud83d"}', {"a": "\ufffd\ufffd\ufffd"}),
        (b'{"a": "x\xff"}', {"a": "x\ufffd"}),
        (b'{"a": "\xc3\xa9", "b": Infinity}', {"a": "\u00e9", "b": math.inf}),
        (b"[" * 100_000, None),
    ],
)
def test_what_anybody_could_read_is_read(text: bytes, value: Any) -> None:
    assert loose.read(text) == value


@pytest.mark.parametrize(
    ("length", "is_read"), [((1 << 20) - 1, True), (1 << 20, True), ((1 << 20) + 1, False)]
)
def test_only_a_small_text_is_read_a_second_time(length: int, is_read: bool) -> None:
    text = b"[Infinity, " + b" " * (length - 14) + b"7]"
    assert len(text) == length - 1
    text += b" "
    assert (loose.read(text) is not None) is is_read


def test_a_value_of_another_type_is_empty() -> None:
    values = [{"a": 1}, [1], "a", 7, 1.5, None, True]
    assert [loose.as_dict(value) for value in values] == [{"a": 1}, {}, {}, {}, {}, {}, {}]
    assert [loose.as_list(value) for value in values] == [[], [1], [], [], [], [], []]
    assert [loose.as_text(value) for value in values] == ["", "", "a", "", "", "", ""]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("abc", 3), ("\u00e9", 2), ("\ud83d", 3), ("", 0), ([1, 2], 5), ({"a": "b"}, 9), (None, 4), (7, 1),
        ([math.inf], 6), (["\ud83d"], len("['\\ud83d']")), ({1, 2}, 5),
    ],
)  # fmt: skip
def test_a_value_is_as_large_as_it_is_written(value: Any, size: int) -> None:
    assert loose.size_of(value) == size


def test_no_depth_is_too_deep_to_weigh() -> None:
    deep: list[Any] = []
    for _ in range(800):
        deep = [deep]
    assert loose.size_of(deep) == 1_602


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, ""), ("", ""), ({}, ""), ([], ""), (0, ""),
        ("went  wrong\n here", "went wrong here"),
        ({"message": "went wrong", "code": 7}, "went wrong"),
        ({"message": "", "code": 7}, '{"message": "", "code": 7}'),
        ({"code": 7}, '{"code": 7}'),
        ({"message": {"a": 1}}, '{"a": 1}'),
        ([1, 2], "[1, 2]"),
        (True, "true"),
        ("x" * 201, "x" * 200),
        ("x" * 200, "x" * 200),
    ],
)  # fmt: skip
def test_an_error_is_one_short_line(error: Any, text: str) -> None:
    assert loose.error_text(error) == text
    assert loose.error_text({"message": {1, 2}})[0] == '"'  # what JSON has no word for


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ({}, ""),
        ({"error": None}, ""),
        ({"error": {}}, ""),
        ({"error": "no"}, "no"),
        ({"error": {"message": "no"}}, "no"),
        ({"error": "no", "type": "error", "message": "yes"}, "no"),
        ({"type": "error", "message": "no"}, "no"),
        ({"type": "error"}, "error"),
        ({"type": "errors", "message": "no"}, ""),
        ({"object": "error", "message": "no"}, "no"),
        ({"object": "error"}, "error"),
        ({"status": "failed", "message": "no"}, "no"),
        ({"status": "failed"}, "failed"),
        ({"status": "error", "message": "no"}, "no"),
        ({"status": "error"}, "failed"),
        ({"status": "completed", "message": "no"}, ""),
        ({"message": "no"}, ""),
    ],
)
def test_an_error_is_one_in_any_of_the_usual_shapes(answer: dict[str, Any], failure: str) -> None:
    assert loose.failure_of(answer) == failure


@pytest.mark.parametrize(
    ("value", "says"),
    [
        *(({name: "no", "x": 1}, "no") for name in ("error", "detail", "message", "msg", "errors")),
        ({"detail": [{"msg": "no"}]}, '[{"msg": "no"}]'),
        ({"error": "", "detail": "no", "message": "yes"}, "no"),
        ({"errors": "5", "msg": "4", "message": "3", "detail": "2", "error": "1"}, "1"),
        ({"errors": "5", "msg": "4", "message": "3", "detail": "2"}, "2"),
        ({"errors": "5", "msg": "4", "message": "3"}, "3"),
        ({"errors": "5", "msg": "4"}, "4"),
        ({"x": 1}, '{"x": 1}'),
        ({}, "nothing"),
        ("text", "text"),
        (None, "nothing"),
    ],
)
def test_what_is_no_answer_is_told_by_what_it_says(value: Any, says: str) -> None:
    assert loose.what_it_says(value) == says
