"""The name that was meant where one is mistyped."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def guess(name: str, known: Iterable[str]) -> str:
    """`did you mean 'chat'?`, empty where no known name is near enough to be meant."""
    import difflib  # noqa: PLC0415 - only what went wrong needs it

    nearest = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else ""


def fix(name: str, known: Iterable[str]) -> str:
    """Return the guess, and all the names there are."""
    names = list(known)
    return f"{guess(name, names)} there are: {', '.join(names) or 'none'}".lstrip()
