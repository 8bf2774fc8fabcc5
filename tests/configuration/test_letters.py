"""What editors, chats and other programs leave in a file is named, where TOML's own words would say little."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.load import ConfigError, load

GOOD = '[daemon]\nlog_level = "info"\n'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (GOOD.encode("utf-16-le"), "NUL bytes, as UTF-16 does"),
        (GOOD.encode("utf-16"), "is not UTF-8"),
        (GOOD.encode() + b"\0", "NUL bytes"),
        (GOOD.replace("\n", "\r").encode(), "CR alone"),
        (b"<<<<<<< HEAD\n" + GOOD.encode() + b"=======\n>>>>>>> other\n", "marks of a merge"),
        (b'{"daemon": {"log_level": "info"}}', "it is JSON"),
        (GOOD.replace('"info"', "\u201cinfo\u201d").encode(), "a typographic quote"),
        (GOOD.replace("=", "\uff1d").encode(), "FULLWIDTH EQUALS SIGN"),
        (GOOD.replace("log", "l\u043eg").encode(), "CYRILLIC SMALL LETTER O"),
        (GOOD.replace('"info"', "\u2026").encode(), "HORIZONTAL ELLIPSIS"),
        (b'[daemon]\nlog_level = "Gr\xc3\xbc\xc3\x9fe" x\n', "Expected newline"),
    ],
)
def test_it_is_named(tmp_path: Path, body: bytes, said: str) -> None:
    """In one sentence, at its line; letters in quotes are nobody's fault."""
    file = tmp_path / "epad.toml"
    file.write_bytes(body)
    with pytest.raises(ConfigError) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert said in problem.text
    assert ("LATIN" in problem.text, problem.origin.file) == (False, str(file))


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode()])
def test_what_editors_of_another_system_write_is_read(tmp_path: Path, body: bytes) -> None:
    """A byte order mark, and lines that end with two letters."""
    file = tmp_path / "epad.toml"
    file.write_bytes(body)
    assert load(file).daemon.log_level == "info"
