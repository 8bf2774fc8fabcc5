"""Decode the bytes of a page: by its mark, its field, its own words, and else as UTF-8. No label decodes anything else.

The codecs are those of the Encoding Standard that Python has, loaded at the start: a call cannot read them. UTF-7, in
which a page may write a `<` that a filter does not see, is none of them.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

# Python's codec, and the labels that pages use; some labels are read as a larger set, as browsers do.
_CODECS: Final = {
    "utf-8": ("utf8",),
    "utf-16-le": ("utf-16", "utf-16le"),
    "utf-16-be": ("utf-16be",),
    "cp1252": ("windows-1252", "iso-8859-1", "latin1", "l1", "us-ascii", "ascii"),
    "cp1254": ("windows-1254", "iso-8859-9", "latin5"),
    "cp874": ("windows-874", "iso-8859-11", "tis-620"),
    "cp866": ("ibm866",),
    "cp932": ("shift_jis", "shift-jis", "sjis", "x-sjis", "windows-31j"),
    "cp949": ("euc-kr", "ks_c_5601-1987", "korean"),
    "gb18030": ("gbk", "gb2312", "x-gbk"),
    "big5hkscs": ("big5", "big5-hkscs", "cn-big5"),
    "euc_jp": ("euc-jp", "x-euc-jp"),
    "iso2022_jp": ("iso-2022-jp",),
    "koi8-r": ("koi8",),
    "koi8-u": ("koi8-ru",),
    "mac-roman": ("macintosh", "x-mac-roman"),
    "mac-cyrillic": ("x-mac-cyrillic",),
    **{f"cp{number}": (f"windows-{number}",) for number in (1250, 1251, 1253, 1255, 1256, 1257, 1258)},
    **{f"iso8859-{number}": (f"iso-8859-{number}",) for number in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
}
_BY_LABEL: Final = {label: codec for codec, labels in _CODECS.items() for label in (codec, *labels)}
_LOADED: Final = tuple(map(codecs.lookup, _CODECS))
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_IN_FIELD = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_IN_PAGE = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_LOOKED_AT: Final = 1_024


def decoded(data: bytes, content_type: str, *, is_html: bool) -> str:
    """Return a body as text; bytes that the charset does not have become U+FFFD."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(codec, errors="replace")
    field = _IN_FIELD.search(content_type)
    codec = _BY_LABEL.get(field[1].lower(), "") if field else ""
    if not codec and is_html and (found := _IN_PAGE.search(data[:_LOOKED_AT])):
        codec = _BY_LABEL.get(found[1].decode("ascii").lower(), "")
        # Whoever can read these words does not read UTF-16.
        codec = "utf-8" if codec.startswith("utf-16") else codec
    return data.decode(codec or "utf-8", errors="replace")
