"""Messages out of bytes, however they are cut; what is too long is thrown away and told."""

from __future__ import annotations

import tracemalloc

import pytest

from epad.foreign.framing import Lines, TooLong


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_whole_however_they_come(size: int) -> None:
    data = b'{"a":1}\r\n\n  {"b":2}\n{"c":"' + b"x" * 50 + b'"}\nrest'
    lines = Lines()
    got = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    assert got == [b'{"a":1}', b'{"b":2}', b'{"c":"' + b"x" * 50 + b'"}']


@pytest.mark.parametrize("size", [1, 5, 64, 4_096])
@pytest.mark.parametrize(
    ("line", "answers"),
    [
        (b'{"jsonrpc":"2.0","id":17,"result":{"x":"%s"}}', 17),
        (b'{"jsonrpc": "2.0", "id": 17, "result": "%s"}', 17),
        (b'{"id":17,"result":"%s","jsonrpc":"2.0"}', 17),
        (b'{"result":{"content":"%s"},"jsonrpc":"2.0","id":17}', 17),
        (b'{"result":"%s","id":17,"jsonrpc":"2.0"}', 17),
        (b'{"jsonrpc":"2.0","id":"17","result":"%s"}', None),
        (b"%s", None),
    ],
)
def test_a_line_that_is_too_long_names_what_it_answers(size: int, line: bytes, answers: int | None) -> None:
    """And the next line is read."""
    lines = Lines(most=1_000)
    data = line.replace(b"%s", b"y" * 9_000) + b"\nnext\n"
    got = [one for at in range(0, len(data), size) for one in lines.feed(data[at : at + size])]
    assert got == [TooLong(data.index(b"\n"), answers), b"next"]


def test_nothing_of_it_is_kept() -> None:
    lines, piece = Lines(), b"z" * (1 << 16)
    tracemalloc.start()
    for _ in range(2_000):
        list(lines.feed(piece))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20
