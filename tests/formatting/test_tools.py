"""Words about categories of tools."""

from __future__ import annotations

from epad.answers.tools import ToolCategory
from epad.formatting import tools

GIT: ToolCategory = {
    "name": "tools-git",
    "kind": "tools",
    "state": "running",
    "tools": ["git_log", "git_status"],
    "workers": [7],
    "calls": 1,
    "lost": 2,
    "held": [{"target": "tool:git_log", "rung": "block", "line": "tool:git_log is blocked"}],
}
TEXT: ToolCategory = {
    "name": "tools-text",
    "kind": "tools",
    "state": "idle",
    "tools": ["text_split"],
    "workers": [],
    "calls": 0,
    "lost": 0,
    "held": [],
}


def test_a_daemon_without_tools_says_nothing_of_them() -> None:
    """An older one neither."""
    assert tools.summary([]) == ""


def test_all_tools_are_one_line_and_those_at_work_one_each() -> None:
    """An idle category is counted alone."""
    assert tools.summary([GIT, TEXT]) == "3 in 2 categories, 1 worker(s), 1 call(s) under way"
    assert tools.at_work([GIT, TEXT]) == ["tools-git running, 1 worker(s), 2 lost"]
    assert tools.holds([GIT, TEXT]) == ["tool:git_log is blocked"]


def test_a_category_in_full_names_its_tools_its_workers_and_its_holds() -> None:
    """One fact a line."""
    told = tools.in_full(GIT)
    assert told[0] == "tools-git: running"
    assert "  tools     git_log, git_status" in told
    assert "  hold      tool:git_log is blocked" in told
    assert "  hold      -" in tools.in_full(TEXT)
