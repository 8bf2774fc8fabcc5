"""Markup is built, text is escaped, and nothing in between."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from epad.web.html import Html, document, join, tag


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(), st.text())
def test_whatever_the_text_it_stays_text(text: str, value: str) -> None:
    """A browser finds the one element that was built, the attribute it was given, and no other."""
    reader = _Reader()
    reader.feed(tag("p", text, title=value))
    reader.close()
    assert [name for name, _ in reader.tags] == ["p"]
    assert set(reader.tags[0][1]) == {"title"}


def test_printable_text_is_shown_as_it_is() -> None:
    """Umlauts are text; an override of the writing direction is not."""
    assert tag("p", "Zürich <1>") == "<p>Zürich &lt;1&gt;</p>"
    assert "\u202e" not in tag("p", "gnp.\u202eexe")


def test_elements_without_an_end() -> None:
    """HTML's void elements have none; SVG's shapes end by their slash."""
    assert tag("br") == "<br>"
    assert tag("rect", width=3) == '<rect width="3"/>'
    assert tag("td") == "<td></td>"


def test_attributes() -> None:
    """Python's words are written with an underscore at their end; what is not so is left out."""
    assert tag("p", class_="a", aria_label="b", hidden=True, id=None, defer=False) == (
        '<p class="a" aria-label="b" hidden></p>'
    )


def test_children_are_flattened() -> None:
    """Lists, generators, numbers and nothing."""
    assert join("a", ["b", (tag("i", n) for n in (1, 2))], None, 3) == "ab<i>1</i><i>2</i>3"
    assert document(tag("head"), tag("body")).startswith(b"<!doctype html>\n<html lang=")
    assert isinstance(join("x"), Html)
