"""Names of tools and categories as targets of holds."""

from __future__ import annotations

import pytest

from statemachine import tool_targets
from statemachine.tool_targets import is_tool_target, targets_of, whose, without_subsystem


def test_a_call_comes_under_its_tool_and_its_category_for_all_and_for_its_subsystem() -> None:
    """The widest first."""
    assert targets_of("agent", "git", "git_commit") == (
        "tools-git",
        "tool:git_commit",
        "tools-git@agent",
        "tool:git_commit@agent",
    )


@pytest.mark.parametrize(
    ("name", "is_target"),
    [
        ("tools-git", True),
        ("tool:git_commit@agent", True),
        ("agent", False),
        ("host", False),
        ("tools-kept", False),
    ],
)
def test_a_subsystems_own_name_is_no_target(name: str, is_target: bool) -> None:
    """A subsystem may be called as a category is, where there are no tools."""
    assert is_tool_target(name, ["agent", "tools-kept"]) is is_target


def test_a_target_says_whose_it_is() -> None:
    """Everybody's is nobody's alone."""
    assert (whose("tools-git"), whose("tools-git@agent")) == ("", "agent")
    assert without_subsystem("tool:a@agent") == tool_targets.tool_target("a")
    assert tool_targets.category_target("git", "agent") == "tools-git@agent"
