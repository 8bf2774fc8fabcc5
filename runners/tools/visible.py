"""Make characters visible that a person does not see and a model reads: text from elsewhere may hide orders in them.

| hidden | becomes |
|---|---|
| sequences of a terminal (ANSI) | nothing |
| other control characters, but for tab and line feed | `<U+0007>` |
| tags, variation selectors beyond the first sixteen, bidirectional controls, blanks of no width | `<U+202E>` |
| joiners and variation selectors, which scripts and emoji need | themselves, but for the second one in a row |
"""

from __future__ import annotations

import re
from typing import Any, Final

_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)|[ -/]*[0-~])")
_HIDDEN: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters
    "\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e01ef"  # tags and the selectors of variants, which carry any bytes
)
_NEEDED: Final = "\u200c\u200d\u200e\u200f\ufe00-\ufe0f"
_SEEN = re.compile(f"[{_HIDDEN}]|(?<=[{_NEEDED}])[{_NEEDED}]")


def visible(text: str) -> str:
    """Return a text whose hidden characters are written out."""
    plain = _TERMINAL.sub("", text.replace("\r\n", "\n"))
    return _SEEN.sub(lambda found: f"<U+{ord(found[0]):04X}>", plain)


def visible_value(value: Any) -> Any:
    """Return a value of JSON's kinds, whose nodes were counted (`plain.py`), with its hidden characters written out."""
    match value:
        case str():
            return visible(value)
        case list():
            return [visible_value(each) for each in value]
        case dict():
            return {visible(key): visible_value(each) for key, each in value.items()}
        case _:
            return value
