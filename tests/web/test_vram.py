"""The line of GPU memory: what it says in words, where it breaks, and that it needs two points."""

from __future__ import annotations

import re

from fake_operations import gpu

from epad.web.vram import HEIGHT, WIDTH, gpu_list


def lines(page: str) -> list[list[tuple[float, float]]]:
    """The points of each stretch."""
    found = re.findall(r'<polyline points="([^"]*)"', page)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in one.split())] for one in found]


def test_a_line_leads_from_the_oldest_to_now() -> None:
    """Full is the top edge; the label says the same as the line."""
    page = gpu_list([gpu("0", total_bytes=4 << 30, history=[[120, 0], [60, 2 << 30], [0, 4 << 30]])])
    assert lines(page) == [[(0, HEIGHT), (WIDTH / 2, HEIGHT / 2), (WIDTH, 0)]]
    assert 'aria-label="memory of GPU 0 over the last 2m00s: from 0.0 to 4.0 of 4.0 GiB"' in page


def test_where_nothing_was_read_there_is_no_line() -> None:
    """A driver that did not answer for an hour is a hole, not a straight line over it."""
    page = gpu_list([gpu("0", history=[[4_000, 1], [3_940, 1], [60, 1], [0, 1]])])
    assert [len(line) for line in lines(page)] == [2, 2]


def test_one_reading_is_no_line_but_words() -> None:
    """In the first minute, and for a card of unknown size."""
    for changes in ({"history": [[0, 1]]}, {"total_bytes": 0}):
        page = gpu_list([gpu("0", **changes)])
        assert "GPU 0 NVIDIA GeForce RTX 5070" in page
        assert "<svg" not in page
