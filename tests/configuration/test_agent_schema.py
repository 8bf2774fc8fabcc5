"""Templates of agents are checked with the configuration: each fault names the key and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.load import ConfigError, load

SOUND = """
[tools]
enabled = true
[subsystems.planner]
command = ["planner"]
[agents.coder]
command = ["coder", "--file={file}", "{mode}"]
parents = ["planner", "coder"]
[agents.coder.parameters]
file = { pattern = "[a-z/]+" }
mode = { choices = ["fast", "slow"] }
"""
OTHER = '\ncommand = ["x"]\nparents = ["planner"]\n'


def problems(directory: Path, text: str) -> list[str]:
    """Return the faults of a configuration."""
    (directory / "epad.toml").write_text(text)
    try:
        load(directory / "epad.toml")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_a_sound_template_has_no_fault(tmp_path: Path) -> None:
    assert problems(tmp_path, SOUND) == []
    assert load(tmp_path / "epad.toml").agents["coder"].tier == "reader"


@pytest.mark.parametrize(
    ("before", "after", "key", "fix"),
    [
        ("enabled = true", "enabled = false", "agents.coder: ", "enable it"),
        ('["planner", "coder"]', '["somebody"]', "agents.coder.parents", "there are: planner, coder"),
        ('["coder", "--file={file}", "{mode}"]', '["{file}", "{mode}"]', "agents.coder.command", "names no program"),
        (
            '["coder", "--file={file}", "{mode}"]',
            '["sh", "-c", "cat {file}", "{mode}"]',
            "agents.coder.command",
            "behind the script",
        ),
        (
            '["coder", "--file={file}", "{mode}"]',
            '["python3", "-Bc", "{file}", "{mode}"]',
            "agents.coder.command",
            "behind the script",
        ),
        ('["coder", "--file={file}", "{mode}"]', '["bash", "{file}", "{mode}"]', "agents.coder.command", "script"),
        ('"{mode}"]', '"{other}"]', "agents.coder.command", "add [agents.coder.parameters.other]"),
        ('"{mode}"]', "]", "agents.coder.parameters.mode", "write {mode} in the command"),
        ('pattern = "[a-z/]+"', "", "agents.coder.parameters.file", "needs one of"),
        ('pattern = "[a-z/]+"', "least = 1", "agents.coder.parameters.file", "needs least and most"),
        ('pattern = "[a-z/]+"', "least = 2, most = 1", "agents.coder.parameters.file", "needs least and most"),
        ('pattern = "[a-z/]+"', 'pattern = "("', "agents.coder.parameters.file.pattern", "correct it"),
        ("[agents.coder]", '[subsystems.coder-7]\ncommand = ["x"]\n[agents.coder]', "subsystems.coder-7", "rename it"),
        ("[agents.coder]", '[agents.coder]\nenvironment = { EPAD_KEY = "x" }', "environment.EPAD_KEY", "take it out"),
        (
            "[agents.coder]",
            '[agents.coder]\nconfine = { profile = "sealed", hosts = ["a.example"] }',
            "agents.coder.confine.hosts",
            "take it out",
        ),
        ("[agents.coder]", f"[agents.planner]{OTHER}[agents.coder]", "planner", "rename"),
        ("[agents.coder]", f"[agents.coder-1]{OTHER}[agents.coder]", "coder-1", "number"),
    ],
)  # fmt: skip
def test_a_fault_names_the_key_and_the_fix(
    tmp_path: Path, before: str, after: str, key: str, fix: str
) -> None:
    assert before in SOUND
    found = problems(tmp_path, SOUND.replace(before, after, 1))
    assert any(key in one and fix in one for one in found), found
