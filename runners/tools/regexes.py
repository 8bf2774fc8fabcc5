"""Compile regular expressions: by google-re2 where it is installed, else by `re`.

RE2 takes time that grows with the text alone, but has no look-around and no back-references. Such patterns go to `re`,
which can run for ever: the call's process is killed then.
"""

from __future__ import annotations

import re
from typing import Any, Final

from runners.tools import optional
from runners.tools.signature import ToolError

_RE2: Final = optional.load("re2")
_FLAGS: Final = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_WRONG: Final[tuple[type[Exception], ...]] = (
    re.error,
    IndexError,
    UnicodeDecodeError,
    *([_RE2.error] if _RE2 else []),
)
_MOST_CHARACTERS: Final = 10_000


def compiled(pattern: str, flags: str = "") -> Any:
    """Return a compiled pattern with `re`'s methods. Raises ToolError for one that is wrong."""
    if len(pattern) > _MOST_CHARACTERS:
        raise ToolError(f"the pattern has over {_MOST_CHARACTERS} characters", "use a shorter one")
    if unknown := set(flags) - set(_FLAGS):
        raise ToolError(f"unknown flags: {', '.join(sorted(unknown))}", f"the flags are {', '.join(_FLAGS)}")
    combined = re.NOFLAG
    for flag in flags:
        combined |= _FLAGS[flag]
    try:
        checked = re.compile(pattern, combined)
    except (re.error, OverflowError, RecursionError) as error:
        raise ToolError(f"the pattern is wrong: {error}", "it is a Python regular expression") from None
    if "x" in flags or _RE2 is None:
        return checked
    return _linear(pattern, flags) or checked


def _linear(pattern: str, flags: str) -> Any:
    """Return RE2's form of a pattern, or None where it has none."""
    assert _RE2 is not None  # noqa: S101 - tells mypy
    options = _RE2.Options()
    options.log_errors = False
    try:
        return _RE2.compile(f"(?{flags}){pattern}" if flags else pattern, options)
    except _RE2.error:
        return None


def replaced(expression: Any, replacement: str, text: str) -> tuple[str, int]:
    r"""Replace all matches; the replacement may name groups as \1 or \g<name>. Raises ToolError for a wrong one."""
    try:
        text, count = expression.subn(replacement, text)
    except _WRONG as error:
        raise ToolError(
            f"the replacement is wrong: {error}", r"write \\ for a backslash, \1 for a group"
        ) from None
    return text, count
