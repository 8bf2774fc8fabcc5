"""docs/epactl-session.md: every command of epactl, typed at a real daemon."""

from __future__ import annotations

import re
import runpy
import shlex
from typing import Any

import pytest
from document_blocks import ROOT

from epad.epactl.command_line import make_parser
from epad.epactl.commands.shell import below, nodes

SESSION: dict[str, Any] = runpy.run_path(str(ROOT / "docs/session.py"))
LINES = [typed.line for chapter in SESSION["CHAPTERS"] for typed in chapter.typed]


def test_no_command_is_left_out() -> None:
    """Each that the parser knows is typed at least once."""
    every = list(nodes(make_parser()))
    typed = [shlex.split(line.split("|")[0]) for line in LINES]
    for node in every:
        if node.words and not below(every, node):
            assert any(list(node.words) == words[words.index("epactl") + 1 :][: len(node.words)] for words in typed
                       if "epactl" in words), node.words  # fmt: skip


def test_the_document_is_of_these_commands() -> None:
    """In this order, each with its exit status; `python docs/session.py` writes it anew."""
    text = SESSION["DOCUMENT"].read_text()
    shown = re.findall(r"^\$ (.+?)(?: {8}# exit status (\d+))?$", text, re.MULTILINE)
    wanted = [(t.line, str(t.status) if t.status else "") for c in SESSION["CHAPTERS"] for t in c.typed]
    assert shown == wanted


@pytest.mark.long
def test_every_command_does_what_the_document_shows() -> None:
    """Typed at a daemon of this test; each ends with the exit status that stands there."""
    wrong = [
        (said.typed.line, said.status, said.text)
        for _, chapter in SESSION["record"]()
        for said in chapter
        if said.status != said.typed.status
    ]
    assert wrong == []
