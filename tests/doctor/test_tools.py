"""The doctor on tools."""

from __future__ import annotations

from msgspec.structs import replace
from shipped_settings import CONFIG

from epad.doctor.finding import Verdict
from epad.doctor.tools import check_tools
from epad.tools.lacking import Lack

ENABLED = replace(CONFIG, tools=replace(CONFIG.tools, enabled=True))


def test_each_lack_has_a_line_with_its_fix() -> None:
    """By the category."""
    lack = Lack("git", "the program git is not installed", "install git")
    [check] = check_tools(ENABLED, lambda: [lack])
    assert (check.verdict, check.fix) == (Verdict.LACKING, "install git")
    assert check.found == "git: the program git is not installed"


def test_where_nothing_is_lacking_or_there_are_no_tools_it_says_so() -> None:
    """One line."""
    [well] = check_tools(ENABLED, list)
    [off] = check_tools(CONFIG, list)
    assert (well.verdict, off.verdict) == (Verdict.OK, Verdict.ABSENT)
