r"""JSON as models and other people write it, read as well-formed Unicode.

`"\ud83d"` is half a character that JSON can spell, and that UTF-8, SQLite and a terminal all refuse.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

REPLACEMENT: Final = "\ufffd"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def loads(raw: str | bytes) -> Any:
    """Read JSON with U+FFFD for each unpaired surrogate, in names as in values. Raises ValueError, RecursionError."""
    value = json.loads(raw)
    return value if is_wellformed(value) else json.loads(_SURROGATE.sub(REPLACEMENT, _written(value)))


def is_wellformed(value: Any) -> bool:
    """Tell if a JSON value can be spelt in UTF-8."""
    return _SURROGATE.search(_written(value)) is None


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def lines(text: str) -> list[str]:
    """The lines of a JSONL file: a line feed alone ends one; `splitlines` cuts text at U+2028 and more as well."""
    *ended, last = text.split("\n")
    return [*ended, last] if last else ended
