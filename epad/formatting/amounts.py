"""Budgets as text: what is used of a limit, in the limit's own unit."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

IN_FLIGHT = "max_in_flight"
MICROUSD = 1_000_000


def count(number: int) -> str:
    """A number in at most four digits."""
    if number < 10_000:
        return str(number)
    return f"{number / 1_000:.0f}k" if number < 10_000_000 else f"{number / 1_000_000:.0f}M"


def fullest(windows: Mapping[str, Mapping[str, int]]) -> str:
    """The limit that is nearest to being reached, and how many more there are; `-` without any.

    How many turns may be in flight is a cap and no budget: it is not among them.
    """
    limited = [(name, w) for name, w in windows.items() if w["limit"] and name != IN_FLIGHT]
    if not limited:
        return "-"
    name, window = max(limited, key=lambda item: item[1]["used"] / item[1]["limit"])
    more = f" (+{len(limited) - 1})" if len(limited) > 1 else ""
    return used_of_limit(name, window) + more


def every(windows: Mapping[str, Mapping[str, int]]) -> str:
    """Every limit there is."""
    return ", ".join(used_of_limit(name, w) for name, w in windows.items() if w["limit"]) or "-"


def used_of_limit(name: str, window: Mapping[str, int]) -> str:
    """One limit: `1500/6000 per minute`, `$0.12/$5.00 per day`, `3/60 requests per minute`, `2/8 in flight`."""
    used, limit = window["used"], window["limit"]
    if name == IN_FLIGHT:
        return f"{used}/{limit} in flight"
    unit, _, span = name.partition("_")
    if unit == "microusd":
        return f"{dollars(used)}/{dollars(limit)} {_words(span)}"
    noun = "" if unit == "tokens" else f"{unit} "
    return f"{count(used)}/{count(limit)} {noun}{_words(span)}"


def _words(span: str) -> str:
    return span.replace("_", " ")


def dollars(microusd: int) -> str:
    """An amount of money to the cent; a spend under a cent is not none."""
    if 0 < microusd < MICROUSD // 100:
        return "<$0.01"
    return f"${microusd / MICROUSD:,.2f}"
