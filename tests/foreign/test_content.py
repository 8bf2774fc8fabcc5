"""Results that fit into what is left, whatever a server answers."""

from __future__ import annotations

import msgspec
import pytest

from epad.foreign.content import UnreadableError, read_result


def text(value: str) -> dict[str, object]:
    return {"content": [{"type": "text", "text": value}]}


@pytest.mark.parametrize("room", [8 << 10, 20 << 10, 64 << 10])
@pytest.mark.parametrize(
    "told",
    [
        text("x" * 300_000),
        text("\u202e" * 100_000),
        {"content": [{"type": "text", "text": "y" * 900}] * 5_000},
        {"content": [{"type": "image", "data": "A" * 30_000, "mimeType": "image/png"}] * 300},
        {"content": [{"type": "resource_link", "uri": "u" * 9_000, "name": "n" * 9_000}] * 300},
        {"content": [], "structuredContent": {"a": ["b" * 100] * 1_000}},
        {"content": [{"type": "text", "text": "t" * 90_000}], "structuredContent": {"a": "b" * 11_000}},
    ],
)
def test_a_result_is_within_its_room(room: int, told: dict[str, object]) -> None:
    """With its images, as JSON."""
    read = read_result("s", "t", told, room)
    assert len(msgspec.json.encode(read.result)) + len(msgspec.json.encode(read.images)) <= room


def test_a_long_text_is_cut_in_its_middle_and_kept_whole() -> None:
    read = read_result("s", "t", text("begin" + "x" * 100_000 + "end"))
    assert read.result.truncated
    assert read.result.text.startswith("begin")
    assert read.result.text.endswith("end")
    assert len(read.whole) == 100_008


@pytest.mark.parametrize("told", [{"content": "text"}, {"content": [], "resultType": "input_required"}])
def test_what_is_no_result_says_why(told: dict[str, object]) -> None:
    with pytest.raises(UnreadableError):
        read_result("s", "t", told)


def test_deep_values_end_nothing() -> None:
    value: object = 1
    for _ in range(5_000):
        value = [value]
    assert read_result("s", "t", {"content": [], "structuredContent": value}).result.parts == [
        "structured content, nested too deep: left out"
    ]
