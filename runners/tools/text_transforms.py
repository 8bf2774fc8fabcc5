"""The tool of the category `text` that transforms a text by the name of an operation."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Callable
from typing import Final, Literal

from runners.tools import output
from runners.tools.signature import Args, Result, meta

Operation = Literal[
    "upper", "lower", "title", "capitalize", "swapcase", "casefold", "strip", "reverse", "snake", "kebab", "camel",
    "pascal", "slug", "nfc", "nfd", "nfkc", "nfkd", "ascii", "dedent", "sort_lines", "unique_lines", "visible",
]  # fmt: skip


class TransformArgs(Args, frozen=True):
    """Holds a text and the operation."""

    text: str
    operation: Operation


class TextResult(Result, frozen=True):
    """Holds a text."""

    text: str


STRING_TRANSFORM: Final = meta(
    "string_transform",
    TransformArgs,
    TextResult,
    risk="P",
    timeout=5,
    description="Transform a text: case, naming style, Unicode form, lines, hidden characters shown.",
    examples=({"text": "Hello World", "operation": "snake"}, {"text": "b\na\n", "operation": "sort_lines"}),
)


@STRING_TRANSFORM.tool
async def string_transform(args: TransformArgs) -> TextResult:
    """Apply one operation."""
    return TextResult(text=output.whole(_OPERATIONS[args.operation](args.text), "transform less at once"))


def _words(text: str) -> list[str]:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return [word.lower() for word in re.split(r"[\W_]+", parted) if word]


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", errors="ignore").decode()


def visible(text: str) -> str:
    """Show control, bidi and tag characters as escapes; tabs and line ends stay."""
    return "".join(
        each
        if each in "\t\n" or unicodedata.category(each) not in {"Cc", "Cf", "Co", "Cn", "Cs"}
        else f"\\u{{{ord(each):x}}}"
        for each in text
    )


def _camel(text: str) -> str:
    first, *rest = _words(text) or [""]
    return first + "".join(word.capitalize() for word in rest)


_OPERATIONS: Final[dict[str, Callable[[str], str]]] = {
    **{
        name: getattr(str, name)
        for name in ("upper", "lower", "title", "capitalize", "swapcase", "casefold", "strip")
    },
    "reverse": lambda text: text[::-1],
    "snake": lambda text: "_".join(_words(text)),
    "kebab": lambda text: "-".join(_words(text)),
    "camel": _camel,
    "pascal": lambda text: "".join(word.capitalize() for word in _words(text)),
    "slug": lambda text: "-".join(_words(_ascii(text))),
    "nfc": lambda text: unicodedata.normalize("NFC", text),
    "nfd": lambda text: unicodedata.normalize("NFD", text),
    "nfkc": lambda text: unicodedata.normalize("NFKC", text),
    "nfkd": lambda text: unicodedata.normalize("NFKD", text),
    "ascii": _ascii,
    "dedent": textwrap.dedent,
    "sort_lines": lambda text: "".join(sorted(text.splitlines(keepends=True))),
    "unique_lines": lambda text: "".join(dict.fromkeys(text.splitlines(keepends=True))),
    "visible": visible,
}


TOOLS: Final = (STRING_TRANSFORM,)
