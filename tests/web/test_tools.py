"""The panel of tools on the first page."""

from __future__ import annotations

from epad.answers.tools import ToolCategory
from epad.web.tools import tool_list

TEXT: ToolCategory = {
    "name": "tools-text",
    "kind": "tools",
    "state": "quarantined",
    "tools": ["text_split"],
    "workers": [7],
    "calls": 0,
    "lost": 0,
    "held": [{"target": "tools-text", "rung": "block", "line": "tools-text is blocked: <b>odd</b>"}],
}


def test_it_names_the_categories_at_work_and_each_hold() -> None:
    """And a reason is text, whatever stands in it."""
    told = str(tool_list([TEXT]))
    assert "1 in 1 categories, 1 worker(s)" in told
    assert "tools-text quarantined" in told
    assert "tools-text is blocked: &lt;b&gt;odd&lt;/b&gt;" in told


def test_without_work_and_holds_it_is_one_line() -> None:
    """Idle categories are counted alone."""
    idle: ToolCategory = {**TEXT, "state": "idle", "workers": [], "held": []}
    assert "<li>" not in str(tool_list([idle]))
