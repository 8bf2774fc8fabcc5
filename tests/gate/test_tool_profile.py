"""Profiles of tools: configuration narrows the gate and never widens it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.gate.tiers import Tier
from epad.gate.tool_profile import Profile, narrowed
from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import BOTH, Consent, Decision, Taint, decide
from statemachine.phase import Phase
from statemachine.rung import Rung

names = st.sampled_from(["file_read", "file_write", "git_status", "file", "*", ""])
patterns = st.none() | st.lists(
    st.sampled_from(["*", "file_read", "files.*", "git.*", "file_*", ".*", "", "git_status"]), max_size=4
)
cases = st.tuples(
    st.sampled_from(Tier),
    st.sampled_from(ToolRisk),
    st.sampled_from(Phase),
    st.sampled_from(Rung),
    st.sampled_from([Taint.NONE, Taint.UNTRUSTED, Taint.PRIVATE, BOTH]),
    st.sampled_from(Consent),
)


@given(case=cases, patterns=patterns, name=names)
def test_no_configuration_opens_what_the_table_shuts(case, patterns, name):
    """Whatever is configured, what is allowed or may be consented to was so in the table."""
    by_table = decide(*case)
    after = narrowed(by_table, Profile(patterns), name, "files")

    assert by_table.allowed or not after.allowed
    assert by_table.needs_consent or not after.needs_consent
    assert after == by_table or after.row == "profile"


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (None, True),
        ((), False),
        (("*",), True),
        (("file_read",), True),
        (("files.*",), True),
        (("git.*", "file_write"), False),
        (("file_*",), False),
    ],
)
def test_a_profile_names_tools_and_categories(patterns, expected):
    """A pattern is a tool's name, a category with `.*`, or a star: nothing else matches by chance."""
    assert Profile(patterns).has("file_read", "files") is expected


def test_without_a_setting_every_tool_is_in_the_profile():
    assert Profile().has("file_read", "files")


ALLOWED, ASKED, SHUT = (
    Decision(allowed, asked, "a row", "a sentence")
    for allowed, asked in ((True, False), (False, True), (False, False))
)
OUTSIDE = Decision(False, False, "profile", "file_read is not among the tools that the configuration gives")


@pytest.mark.parametrize(
    ("decision", "patterns", "after"),
    [
        (ALLOWED, ("file_read",), ALLOWED),
        (ALLOWED, ("files.*",), ALLOWED),
        (ALLOWED, ("git.*",), OUTSIDE),
        (ASKED, ("files.*",), ASKED),
        (ASKED, ("file_read",), ASKED),
        (ASKED, (), OUTSIDE),
        (SHUT, ("files.*",), SHUT),
        (SHUT, (), SHUT),
    ],
)
def test_what_a_profile_makes_of_a_decision(decision, patterns, after):
    """A tool outside is refused for that, unless the table refuses it already; its reason stays then."""
    assert narrowed(decision, Profile(patterns), "file_read", "files") == after
