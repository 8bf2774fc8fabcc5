"""Build HTML that no inserted value can break: text is escaped unless it was built here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"meta", "link", "input", "br"})
_SHAPES = frozenset({"path", "line", "rect", "circle", "polyline"})


class Html(str):
    """Markup that `tag` or `join` has made; any other string is text and will be escaped."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]
Attribute = str | int | float | bool | None


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """Build one element.

    In attribute names a trailing `_` is dropped and others become `-`; False and None are left out.
    """
    opening = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}"
    if name in _VOID:
        return Html(f"{opening}>")
    if name in _SHAPES:  # in SVG only the slash ends an element without children
        return Html(f"{opening}/>")
    return Html(f"{opening}>{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Children one after another, each escaped unless it is markup already."""
    return Html("".join(_render(child) for child in children))


def document(head: Html, body: Html) -> bytes:
    """Return a whole page."""
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n".encode()


def _render(child: Child) -> str:
    if isinstance(child, Html):
        return child
    if child is None:
        return ""
    if isinstance(child, str):
        return escape(_printable(child))
    if isinstance(child, int | float):
        return str(child)
    return "".join(_render(item) for item in child)


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{escape(_printable(str(value)))}"'


def _printable(text: str) -> str:
    """Text without control characters: a bidirectional override in a model's name may not rearrange a page."""
    return (
        text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
    )
