"""Format budgets as text, in each limit's own unit, and read amounts as people type them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from epad.answers.status import Use

IN_FLIGHT = "max_in_flight"
MICROUSD = 1_000_000
SHORT_FOR = {"k": 1_000, "K": 1_000, "M": 1_000_000}
AS_TYPED = "a number, with k for thousands or M for millions: 20k, 1.5M, 200000"


class AmountError(ValueError):
    """A text that is no amount; the message says why, and how one is given."""


def read(text: str) -> int | float:
    """Read an amount as people type it: 200000, 200_000, 2.5, 20k, 1.5M. With k or M it is a whole number.

    Raises AmountError.
    """
    factor = SHORT_FOR.get(text[-1:], 1)
    try:
        if factor > 1:
            return _scaled(text, factor)
        return float(text) if "." in text else int(text)
    except ValueError as error:
        if isinstance(error, AmountError):
            raise
        raise AmountError(f"{text!r} is no amount; give {AS_TYPED}") from None


def _scaled(text: str, factor: int) -> int:
    """Return a decimal fraction of thousands or millions, counted in whole numbers: none of it is lost.

    Raises ValueError.
    """
    whole, point, part = text[:-1].partition(".")
    if not all(digits.isascii() and digits.isdecimal() for digits in ([whole, part] if point else [whole])):
        raise ValueError(text)
    rest = int(part or 0) * factor
    if rest % 10 ** len(part):
        raise AmountError(f"{text!r} is no whole number; give {AS_TYPED}")
    return int(whole) * factor + int(rest // 10 ** len(part))


def count(number: int) -> str:
    """Return a number in at most four digits."""
    if number < 10_000:
        return str(number)
    return f"{number / 1_000:.0f}k" if number < 10_000_000 else f"{number / 1_000_000:.0f}M"


def fullest(windows: Mapping[str, Use]) -> str:
    """Return the limit that is nearest to being reached, and how many more there are; `-` without any.

    How many turns may be in flight is a cap and no budget: it is not among them.
    """
    limited = [(name, w) for name, w in windows.items() if w["limit"] and name != IN_FLIGHT]
    if not limited:
        return "-"
    name, window = max(limited, key=lambda item: item[1]["used"] / item[1]["limit"])
    more = f" (+{len(limited) - 1})" if len(limited) > 1 else ""
    return used_of_limit(name, window) + more


def every(windows: Mapping[str, Use]) -> str:
    """Format every limit that is set."""
    return ", ".join(used_of_limit(name, w) for name, w in windows.items() if w["limit"]) or "-"


def used_of_limit(name: str, window: Use) -> str:
    """Format one limit: `1500/6000 per minute`, `$0.12/$5.00 per day`, `3/60 requests per minute`, `2/8 in flight`."""
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
    """Return an amount of money to the cent; a spend under a cent is not none."""
    if 0 < microusd < MICROUSD // 100:
        return "<$0.01"
    return f"${microusd / MICROUSD:,.2f}"
