"""Format text for people: durations, and strings that are safe to print on a terminal."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """Return a time as people say it: its two largest units."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600:02}h"


def clean(text: object) -> str:
    """Text without anything that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in str(text))


def cut(text: str, width: int) -> str:
    """Cut text to a number of characters; dots stand for the rest."""
    return text if len(text) <= width else text[: width - 3] + "..."
