"""Turn a page of HTML into the text that a person reads, plain or with Markdown's marks.

Left out are scripts, styles, and elements that the page itself hides (`hidden`, `aria-hidden`, `display:none`): orders
for a model are put there. What is hidden in another way (white on white, by a style sheet) is not seen to be so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

from runners.tools.html_tokens import Tag, tokens

MOST_CHARACTERS: Final = 4 << 20
"""Of the page; what stands behind is left out, and said so."""
_MOST_DEPTH: Final = 8
_SKIPPED: Final = frozenset(
    {"script", "style", "template", "noscript", "svg", "iframe", "object", "head", "noembed", "noframes"}
)
_BLOCKS: Final = frozenset(
    {
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "dd",
            "details",
            "div",
            "dl",
            "dt",
            "figcaption",
            "figure",
        ),
        *(
            "footer",
            "form",
            "header",
            "hr",
            "li",
            "main",
            "nav",
            "ol",
            "p",
            "pre",
            "section",
            "summary",
            "table",
        ),
        *("tr", "ul", "h1", "h2", "h3", "h4", "h5", "h6", "title", "fieldset", "option"),
    }
)
_VOID: Final = frozenset(
    {*("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")}
)
_HIDES = re.compile(r"(display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\r\n\f]+")
_MANY_LINES = re.compile(r"\n{3,}")


def title_of(page: str) -> str:
    """Return the title of a page; empty without one."""
    inside = False
    for token in tokens(page[:65_536]):
        if isinstance(token, Tag):
            inside = token.name == "title" and not token.closes
        elif inside:
            return _BLANKS.sub(" ", token).strip()[:300]
    return ""


def text_of(page: str, base: str, *, marks: bool) -> str:
    """Return the text of a page; `base` is its address, from which its links are read. `marks`: as Markdown."""
    writer = _Writer(base, marks=marks)
    for token in tokens(page[:MOST_CHARACTERS]):
        if isinstance(token, Tag):
            writer.tag(token)
        else:
            writer.text(token)
    rest = "\n\n[the page goes on]" if len(page) > MOST_CHARACTERS else ""
    return writer.written() + rest


@dataclass(slots=True)
class _Skipped:
    """An element whose content is left out, and how many of its name are open inside it."""

    name: str
    depth: int = 1


class _Writer:
    """Writes text as tags and texts come."""

    def __init__(self, base: str, *, marks: bool) -> None:
        self._base, self._marks = base, marks
        self._parts: list[str] = []
        self._skipped: _Skipped | None = None
        self._lists: list[int] = []
        """Of each list that is open, the number of its last item; negative where it has none."""
        self._link: tuple[str, int] | None = None
        """Where the link that is open leads to, and the part that it begins at. Links do not nest."""
        self._pre = 0
        self._is_at_start = True

    def written(self) -> str:
        lines = "".join(self._parts).split("\n")
        return _MANY_LINES.sub("\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")

    def text(self, text: str) -> None:
        if self._skipped is not None:
            return
        if not self._pre:
            text = _BLANKS.sub(" ", text)
            text = text.lstrip(" ") if self._is_at_start else text
        if text:
            self._put(text)

    def tag(self, tag: Tag) -> None:
        if self._skipped is not None:
            if tag.name == self._skipped.name:
                self._skipped.depth += -1 if tag.closes else 1
                self._skipped = self._skipped if self._skipped.depth else None
            return
        if not tag.closes and tag.name not in _VOID and _is_left_out(tag):
            self._skipped = _Skipped(tag.name)
            return
        if tag.name in _BLOCKS:
            self._break(2 if tag.name in {"p", "pre", "table", "h1", "h2", "h3", "h4", "h5", "h6"} else 1)
        self._closed(tag.name) if tag.closes else self._opened(tag)

    def _opened(self, tag: Tag) -> None:
        match tag.name:
            case "br":
                self._put("\n")
            case "ul" | "ol":
                self._lists.append(0 if tag.name == "ol" else -1)
            case "li":
                self._item()
            case "pre":
                self._pre += 1
                self._mark("```\n")
            case "a":
                self._end_link()
                self._link = tag.attributes.get("href", ""), len(self._parts)
            case "img" if alt := tag.attributes.get("alt", "").strip():
                self.text(f"[image: {alt[:200]}]")
            case "td" | "th":
                self._put(" " if self._is_at_start else " | ")
            case "hr":
                self._mark("---\n")
            case _:
                self._mark(_MARKS.get(tag.name, ""))

    def _closed(self, name: str) -> None:
        match name:
            case "ul" | "ol" if self._lists:
                self._lists.pop()
            case "pre" if self._pre:
                self._pre -= 1
                self._mark("```\n")
            case "a":
                self._end_link()
            case "strong" | "b" | "em" | "i" | "code":
                self._mark(_MARKS[name])

    def _item(self) -> None:
        number = self._lists[-1] if self._lists else -1
        if number >= 0:
            self._lists[-1] = number = number + 1
        indent = "  " * min(_MOST_DEPTH, max(0, len(self._lists) - 1))
        self._put(f"{indent}{number}. " if number >= 0 else f"{indent}- ")
        self._is_at_start = True

    def _end_link(self) -> None:
        (href, begin), self._link = self._link or ("", 0), None
        if not self._marks or not href or href.startswith(("#", "javascript:", "data:")):
            return
        words = "".join(self._parts[begin:]).strip()
        if not words or "\n" in words:
            return
        try:
            address = urljoin(self._base, href)
        except ValueError:
            return
        self._parts[begin:] = [f"[{words}]({address[:2_000]})"]

    def _break(self, lines: int) -> None:
        if self._parts:
            self._parts.append("\n" * lines)
        self._is_at_start = True

    def _mark(self, text: str) -> None:
        if self._marks and text:
            self._put(text)

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._is_at_start = text[-1] in " \n"


_MARKS: Final = {
    **{f"h{level}": f"{'#' * level} " for level in range(1, 7)},
    "strong": "**",
    "b": "**",
    "em": "*",
    "i": "*",
    "code": "`",
    "blockquote": "> ",
}


def _is_left_out(tag: Tag) -> bool:
    given = tag.attributes
    return (
        tag.name in _SKIPPED
        or "hidden" in given
        or given.get("aria-hidden", "").lower() == "true"
        or _HIDES.search(given.get("style", "")) is not None
    )
