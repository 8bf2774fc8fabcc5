"""Show content from elsewhere as data: decoded, its hidden characters visible, and between marks that name its origin.

The marks carry a word that nobody outside knows, so content cannot end them. They do not stop a model from obeying what
stands between them, and nothing here claims so: the gate decides about deeds.
"""

from __future__ import annotations

import os
import re
from typing import Final

from runners.tools.charset import decoded
from runners.tools.html_text import text_of, title_of
from runners.tools.signature import ToolError
from runners.tools.visible import visible
from runners.tools.web_exchange import WebAnswer

MARK_CHARACTERS: Final = 400
"""About what the marks take."""
_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
_IS_TEXT = re.compile(
    r"text/.*|application/(.*\+)?(json|xml|yaml|javascript|x-ndjson|toml|graphql)|.*\+(json|xml)"
)


def kind_of(answer: WebAnswer) -> str:
    """Return the type of an answer's body, without its parameters."""
    told = answer.get("content-type").partition(";")[0].strip().lower()
    if told:
        return told
    return "text/plain" if b"\x00" not in answer.body[:1_024] else "application/octet-stream"


def is_html(answer: WebAnswer) -> bool:
    """Tell if an answer is a page."""
    return kind_of(answer) in _HTML


def words_of(answer: WebAnswer) -> str:
    """Return the body of an answer as text, as it came but for hidden characters. Raises ToolError for no text."""
    return visible(source_of(answer))


def source_of(answer: WebAnswer) -> str:
    """Return the body of an answer, with its hidden characters, for a parser alone. Raises ToolError for no text.

    A parser of HTML would take `<U+202E>` for a tag, so what it has read is made visible behind it.
    """
    kind = kind_of(answer)
    if answer.body and _IS_TEXT.fullmatch(kind) is None:
        raise ToolError(
            f"{visible(kind[:80])} is no text ({len(answer.body)} bytes)", "ask for a page or a text"
        )
    return decoded(answer.body, answer.get("content-type"), is_html=kind in _HTML)


def page_of(answer: WebAnswer, *, marks: bool) -> str:
    """Return the text of an answer as a person reads it. Raises ToolError for no text."""
    source = source_of(answer)
    return visible(text_of(source, str(answer.address), marks=marks) if is_html(answer) else source)


def page_title(answer: WebAnswer) -> str:
    """Return the title of a page; empty for anything else."""
    return visible(title_of(source_of(answer))) if is_html(answer) else ""


def as_data(text: str, origin: str) -> str:
    """Return a text between marks that name its origin."""
    word = os.urandom(6).hex()
    return f"[data from {visible(origin)[:300]}, begins {word}]\n{text}\n[data ends {word}]"
