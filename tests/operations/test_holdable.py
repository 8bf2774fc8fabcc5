"""Names that can be held."""

from __future__ import annotations

import pytest

from epad.operations.holdable import check_holdable
from epad.operations.protocol import UnknownNameError, UnknownSubsystemError, UnknownToolError

SUBSYSTEMS = ["agent", "tools-own"]
TARGETS = {"tools-git", "tool:git_commit"}


@pytest.mark.parametrize(
    "name", ["agent", "tools-own", "tools-git", "tool:git_commit", "tools-git@agent", "NORMAL"]
)
def test_what_there_is_can_be_held(name: str) -> None:
    """A subsystem, a tool, a category, either for one subsystem; and what else is asked about."""
    check_holdable(name, SUBSYSTEMS, TARGETS, ["NORMAL"])


@pytest.mark.parametrize(
    ("name", "error", "known"),
    [
        ("chat", UnknownSubsystemError, "agent"),
        ("tool:git_comit", UnknownToolError, "tool:git_commit"),
        ("tools-gti@agent", UnknownToolError, "tools-git"),
        ("tool:git_commit@chat", UnknownSubsystemError, "agent"),
    ],
)
def test_what_is_mistyped_is_told_with_what_there_is(
    name: str, error: type[UnknownNameError], known: str
) -> None:
    """Each part of the name by itself."""
    with pytest.raises(error) as told:
        check_holdable(name, SUBSYSTEMS, TARGETS)
    assert known in told.value.known
