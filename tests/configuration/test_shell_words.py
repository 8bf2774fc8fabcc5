"""What only a shell would read, and what nobody can see, is named by `epad check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.load import load
from epad.configuration.shell_words import shell_check


def complaints(tmp_path: Path, text: str) -> list[tuple[str, str]]:
    path = tmp_path / "epad.toml"
    path.write_text(f'[subsystems.a]\n{text}\n[upstreams.v]\nurl = "http://h:1"\ndialects = ["openai"]\n')
    return [(".".join(one.key), one.text) for one in shell_check(load(path))]


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ('command = ["x"]\nworking_directory = "~/x"', "working_directory", "holds ~,"),
        ('command = ["$HOME/x"]', "command", "holds $HOME,"),
        ('command = ["x", "~/y"]', "command", "holds ~,"),
        ('command = ["x", "${DATA}/y"]', "command", "holds ${DATA},"),
        ('command = ["x"]\nenvironment = { PATH = "$PATH:/x" }', "environment.PATH", "holds $PATH,"),
        ('command = ["x"]\nenvironment = { DIR = "~/x" }', "environment.DIR", "holds ~,"),
        ('command = ["x"]\nstate = { files = ["~/x"] }', "state.files", "holds ~,"),
        ('command = ["x", "a\u200bb"]', "command", "U+200B (ZERO WIDTH SPACE)"),
        ('command = ["x", "a\u202eb", "a\u200bb"]', "command", "U+202E (RIGHT-TO-LEFT OVERRIDE)"),
        ('command = ["x\u00a0"]', "command", "U+00A0 (NO-BREAK SPACE)"),
        ('command = ["x\\u001b[31m"]', "command", "U+001B (a control character)"),
        ('command = ["x"]\nenvironment = { KEY = "sk-1\ufeff" }', "environment.KEY", "U+FEFF"),
    ],
)
def test_it_is_named_at_its_key(tmp_path: Path, text: str, key: str, said: str) -> None:
    """Once, and without the value, which may be a secret."""
    ((found, complaint),) = complaints(tmp_path, text)
    assert found == f"subsystems.a.{key}"
    assert said in complaint
    assert "sk-1" not in complaint


@pytest.mark.parametrize(
    "text",
    [
        'command = ["sh", "-c", "$HOME/x ~/y"]',
        'command = ["/usr/bin/env", "$X"]',
        'command = ["x", "costs $5", "a~b", "two\\nlines\\tand a tab"]',
        'command = ["x", "\U0001f469\u200d\U0001f680 \u2764\ufe0f Grüße"]',
        'command = ["x"]\nenvironment = { PRICE = "$5", PATTERN = "a$" }',
    ],
)
def test_what_is_meant_so_is_left(tmp_path: Path, text: str) -> None:
    """A shell's own words, a dollar, a picture made of several letters."""
    assert complaints(tmp_path, text) == []
