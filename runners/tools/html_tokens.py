"""Cut a page of HTML into tags and texts, in time that grows with its length alone, whatever it is made of.

What never ends (a comment, a tag, a quoted value, a script) goes on to the end of the page, as browsers have it, so no
place is looked at twice. Nothing is nested here: a page of a million open tags is a million tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Final

RAW: Final = frozenset({"script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"})
"""Elements whose content is no markup."""
_NAME = re.compile(r"[A-Za-z][^\s/>\x00]{0,60}")
_ATTRIBUTE = re.compile(r"[\s/]*([^\s/>=]{1,60})[^\s/>=]*(?:\s*=\s*)?")
_UNQUOTED = re.compile(r"[^\s>]*")


@dataclass(frozen=True, slots=True)
class Tag:
    """Holds one tag; a closing one has no attributes."""

    name: str
    closes: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)


def tokens(page: str) -> Iterator[Tag | str]:
    """Yield the tags and the texts of a page, in their order; entities are read."""
    at, lower = 0, ""
    while at < len(page):
        begin = page.find("<", at)
        if begin < 0:
            yield unescape(page[at:])
            return
        if begin > at:
            yield unescape(page[at:begin])
        follows = page[begin + 1 : begin + 2]
        if follows.isascii() and follows.isalpha():
            tag, at = _opened(page, begin + 1)
            yield tag
            if tag.name in RAW:
                lower = lower or _lower(page)
                end = lower.find(f"</{tag.name}", at)
                end = len(page) if end < 0 else end
                yield unescape(page[at:end]) if tag.name in {"textarea", "title"} else page[at:end]
                at = end
        elif follows == "/":
            name = _NAME.match(page, begin + 2)
            if name is not None:
                yield Tag(name[0].lower(), closes=True)
            at = _after(page, ">", begin + 2)
        elif follows in {"!", "?"}:
            is_comment = page.startswith("!--", begin + 1)
            at = _after(page, "-->", begin + 4) if is_comment else _after(page, ">", begin + 2)
        else:
            yield "<"
            at = begin + 1


def _opened(page: str, at: int) -> tuple[Tag, int]:
    """Read a tag from its name on; return it, and the place behind it."""
    found = _NAME.match(page, at)
    assert found is not None  # noqa: S101 (its first letter was seen)
    at, attributes = found.end(), dict[str, str]()
    while at < len(page):
        attribute = _ATTRIBUTE.match(page, at)
        if attribute is None:
            break
        name, at = attribute[1].lower(), attribute.end()
        value = ""
        if attribute[0].rstrip().endswith("="):
            quote = page[at : at + 1]
            if quote in {'"', "'"}:
                end = page.find(quote, at + 1)
                end = len(page) if end < 0 else end
                value, at = page[at + 1 : end], end + 1
            else:
                bare = _UNQUOTED.match(page, at)
                value, at = (bare[0], bare.end()) if bare is not None else ("", at)
        if len(attributes) < 64:
            attributes.setdefault(name, unescape(value[:8_192]))
    return Tag(found[0].lower(), attributes=attributes), _after(page, ">", at)


def _after(page: str, text: str, at: int) -> int:
    """Return the place behind a text; the end of the page where it does not come."""
    found = page.find(text, at)
    return len(page) if found < 0 else found + len(text)


def _lower(page: str) -> str:
    """Return the page in lower case, letter by letter, so that every place stays where it is."""
    return page.translate(_LOWER)


_LOWER: Final = {number: number + 32 for number in range(ord("A"), ord("Z") + 1)}
