"""Results over the bound: head and tail in the answer, the whole beside it, or a refusal where it cannot be kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tool_process import ToolWorker, tool_worker

BOUND, SPILL = 16 << 10, 6 << 20


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolWorker]:
    with tool_worker("text,data", tmp_path_factory.mktemp("work")) as opened:
        yield opened


def ask(worker: ToolWorker, tool: str, arguments: dict[str, Any], spill: int = SPILL) -> dict[str, Any]:
    return worker.answer(tool, arguments, output_bytes=BOUND, spill_bytes=spill)


def test_a_result_that_makes_sense_whole_is_kept_whole(worker: ToolWorker) -> None:
    """The answer has its head and its tail within the bound; without room to keep it, the call says what to do."""
    text = "".join(f"line {number}\n" for number in range(20_000))
    answer = ask(worker, "string_transform", {"text": text, "operation": "upper"})
    assert len(json.dumps(answer["result"])) <= BOUND
    assert answer["result"]["truncated"] is True
    assert "LINE 0" in answer["result"]["json"]
    assert "LINE 19999" in answer["result"]["json"]
    assert answer["whole"] == {"text": text.upper()}
    refused = ask(worker, "string_transform", {"text": text, "operation": "upper"}, spill=0)
    assert "room" in refused["error"]
    assert "whole" not in refused


def test_a_text_that_is_cut_keeps_its_head_and_its_tail(worker: ToolWorker) -> None:
    """And is kept whole; one that fits is not."""
    left = "".join(f"old {number}\n" for number in range(2_000))
    right = "".join(f"new {number}\n" for number in range(2_000))
    answer = ask(worker, "text_diff", {"a": left, "b": right})
    assert "new 1999" in answer["result"]["diff"]
    assert "cut here" in answer["result"]["diff"]
    assert answer["whole"].count("\n") > 4_000
    assert "whole" not in ask(worker, "text_diff", {"a": "1\n", "b": "2\n"})


def test_what_is_longer_than_can_be_kept_is_refused(worker: ToolWorker) -> None:
    """It says to ask for less."""
    text = "x" * 100_000
    refused = ask(worker, "string_transform", {"text": text, "operation": "upper"}, spill=50_000)
    assert "error" in refused
    assert "whole" not in refused


def test_characters_of_several_bytes_are_not_torn(tmp_path: Path, worker: ToolWorker) -> None:
    """Where the head ends and the tail begins."""
    answer = ask(worker, "string_transform", {"text": "ä€😀\n" * 9_000, "operation": "upper"})
    answer["result"]["json"].encode()
    assert answer["whole"]["text"].count("😀") == 9_000
