"""Write data to stdout, messages to stderr, and questions only to a person."""

from __future__ import annotations

import json
import sys

from epad.epactl.render import Style
from epad.formatting.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TextIO


class Terminal:
    """The three standard streams, and how to write to them."""

    def __init__(
        self,
        environment: Mapping[str, str],
        output: str,
        streams: tuple[TextIO, TextIO, TextIO] | None = None,
    ) -> None:
        self._in, self._out, self._err = streams or (sys.stdin, sys.stdout, sys.stderr)
        self.as_json = output in {"json", "jsonl"}
        self._one_line = output == "jsonl"
        plain = bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb"
        self.style = Style(colour=self._out.isatty() and not plain, wide=output == "wide")

    def show(self, value: Any, lines: Iterable[str]) -> None:
        """Print the answer: as JSON if that was asked for, else as lines for people."""
        if self._one_line:
            self.lines(json.dumps(item) for item in (value if isinstance(value, list) else [value]))
        else:
            self.lines([json.dumps(value, indent=2)] if self.as_json else lines)

    def lines(self, lines: Iterable[str]) -> None:
        """Data. A character that the terminal's encoding lacks is replaced, not fatal."""
        text = "".join(f"{line}\n" for line in lines)
        encoding = self._out.encoding or "utf-8"
        self._out.write(text.encode(encoding, "replace").decode(encoding))
        self._out.flush()

    def say(self, text: str) -> None:
        """Talk."""
        self._err.write(f"epactl: {clean(text)}\n")

    def progress(self, text: str) -> None:
        """Print a line that the next one overwrites; only for a person who is watching."""
        if self._err.isatty():
            self._err.write(f"\r\x1b[K{text}")
            self._err.flush()

    def is_person(self) -> bool:
        """Tell if a person can be asked: both stdin and stderr are terminals."""
        return self._in.isatty() and self._err.isatty()

    def confirm(self, question: str) -> bool:
        """Ask; only a typed yes is one."""
        self._err.write(f"{question} Type yes to go on: ")
        self._err.flush()
        return self._in.readline().strip().lower() == "yes"
