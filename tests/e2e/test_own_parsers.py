"""Tools of code, notebook, crypto, thinking and prompt under the installed daemon: each in the cell of its place."""

from __future__ import annotations

import json
from pathlib import Path

from tool_agent import scene

SOURCE = "import os\n\n\ndef f( a ):\n    if a:\n        return 1\n"
NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


def test_code_and_notebooks_are_read_and_changed_in_the_workspace(tmp_path: Path) -> None:
    """Ruff runs in the cell; the other tools read by themselves, and what is written is on the disk."""
    workspace = tmp_path / "work"
    workspace.mkdir()
    (workspace / "a.py").write_text(SOURCE)
    (workspace / "a.ipynb").write_text(json.dumps(NOTEBOOK))
    (workspace / "ruff.toml").write_text("extend = '/nonexistent'\n")
    with scene(workspace) as (_, agent):
        linted = agent.call("code_lint", select="F")
        formatted = agent.call("code_format", path="a.py", check=False)
        outline = agent.call("code_outline", path="a.py")
        added = agent.call("notebook_add_cell", path="a.ipynb", source="print(1)")
    assert [each["rule"] for each in linted["content"]["findings"]] == ["F401"], linted
    assert formatted["content"]["changed"], formatted
    assert "def f(a):" in (workspace / "a.py").read_text()
    assert [each["name"] for each in outline["content"]["symbols"]] == ["f"], outline
    assert added["content"]["cells"] == 1, added
    assert json.loads((workspace / "a.ipynb").read_text())["cells"][0]["source"] == ["print(1)"]


def test_what_needs_no_file_is_done_without_any(tmp_path: Path) -> None:
    """In a cell without the workspace. A signature takes a key of the vault, which has none here."""
    workspace = tmp_path / "work"
    workspace.mkdir()
    with scene(workspace) as (_, agent):
        made = agent.call("uuid_generate", version=7)
        hashed = agent.call("password_hash", password="correct horse")
        signed = agent.call("hmac_sign", message="x", key_reference="{{secret:key}}")
        thought = agent.call("sequential_think", thought="So.", number=1, total=2, more=True)
        built = agent.call("prompt_build", template="Hello {{name}}", values={"name": "Ann"})
        turned = agent.call("message_format", messages=ASKED, source="openai", dialect="anthropic")
    assert len(made["content"]["uuids"]) == 1, made
    assert hashed["content"]["hash"].startswith("$scrypt$"), hashed
    assert signed["is_error"]
    assert "there is no secret 'key'" in signed["content"]["error"]
    assert thought["content"]["open"] == [2], thought
    assert built["content"]["text"] == "Hello Ann", built
    assert turned["content"]["system"] == "Be brief.", turned
