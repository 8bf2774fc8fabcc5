"""Remove secrets from messages that leave the machine: no key, no token, no address's query, no prompt. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

REDACTED = "[redacted]"
MAX_CHARACTERS = 1_000
MAX_QUOTED = 40
"""A longer quotation may be somebody's prompt or answer."""

_RULES = (
    # The user, path, query and fragment of an address: only where it leads to is told.
    (
        re.compile(r"\b([a-z][a-z0-9+.-]*://)(?:[^\s/@]*@)?([^\s/?#\"'<>]+)[^\s\"'<>]*", re.IGNORECASE),
        r"\1\2",
    ),
    (re.compile(r"\b(bearer|basic)\s+[^\s,;]+", re.IGNORECASE), rf"\1 {REDACTED}"),
    (
        re.compile(
            r"([\w-]*(?:api[_-]?key|token|secret|passw(?:or)?d|authorization|cookie)s?[\"']?\s*[=:]\s*)[\"']?[^\s,;\"']+",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
    (
        re.compile(
            r"\b(?:epad|sk|pk|rk|hf|gh[pousr]|github_pat|glpat|xox[a-z]|tk|AIza|AKIA)[-_]?[A-Za-z0-9_-]{12,}"
        ),
        REDACTED,
    ),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), REDACTED),
    # A long word of letters and digits in one is no word: a key, a digest, an id.
    (re.compile(r"(?<![\w/.-])(?=[\w+=-]*\d)(?=[\w+=-]*[A-Za-z])[\w+=-]{32,}"), REDACTED),
    (re.compile(rf"(?<!\w)([\"'])(?!\s)(?:(?!\1\W).){{{MAX_QUOTED},}}\1(?!\w)", re.DOTALL), REDACTED),
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return one line without secrets; `secrets` are known ones, in any form."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, REDACTED)
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= MAX_CHARACTERS else f"{line[: MAX_CHARACTERS - 1]}…"
