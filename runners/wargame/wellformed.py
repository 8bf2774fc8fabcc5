r"""JSON as models write it, read as well-formed Unicode.

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
    written = json.dumps(value, ensure_ascii=False)
    return json.loads(_SURROGATE.sub(REPLACEMENT, written)) if _SURROGATE.search(written) else value
