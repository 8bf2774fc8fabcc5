"""Finding the line of each key, in every way TOML allows to write one."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from epad.configuration.toml_lines import KeyPath, key_lines, key_text, line_of

DOCUMENT = '''\
# [not.a.table]
top = 1   # = 2

[a]
"quoted key" = "[b] # \\" no"
multi = """
x = 1
[c]
"""
literal = \'\'\'
y = 2 \'\'\'\'\'
array = [
  "]",  # ]
  { k = [1,
    2] },
]
[a.b]  # comment
dotted.key = true
inline = { one = 1, two = { three = 3 } }

  [ "d.e" . f ]
last = \'#"[\''''


def test_each_key_stands_on_the_line_its_statement_begins() -> None:
    """Strings, arrays, comments and inline tables that look like something else do not mislead."""
    lines = key_lines(DOCUMENT)
    expected = {
        ("top",): 2,
        ("a",): 4,
        ("a", "quoted key"): 5,
        ("a", "multi"): 6,
        ("a", "literal"): 10,
        ("a", "array"): 12,
        ("a", "b"): 17,
        ("a", "b", "dotted"): 18,
        ("a", "b", "dotted", "key"): 18,
        ("a", "b", "inline"): 19,
        ("a", "b", "inline", "one"): 19,
        ("a", "b", "inline", "two"): 19,
        ("a", "b", "inline", "two", "three"): 19,
        ("d.e", "f"): 21,
        ("d.e", "f", "last"): 22,
    }
    assert lines == expected


def test_the_line_of_what_is_missing_is_its_tables() -> None:
    """A key that is not there is looked for where it should be; nothing at all is line 0."""
    lines = key_lines("[a]\nx = 1\n")
    assert line_of(lines, ("a", "y", "z")) == 1
    assert line_of(lines, ("b",)) == 0


def test_a_key_is_written_as_in_the_file() -> None:
    """Quoted where it must be, so that a dot in a name does not read as a table."""
    assert key_text(("a", "b-c", "d.e")) == 'a.b-c."d.e"'


KEYS = st.text("abc_", min_size=1, max_size=4)
VALUES = st.sampled_from(["1", '"#"', "'['", "[1,\n 2]", '"""\n= """', "'''\n'''", "{ a = 1 }", "[ # ]\n]"])


@given(
    st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4), st.text("\n", max_size=2)
)
def test_every_key_of_any_document_is_found_where_it_was_put(
    tables: dict[str, dict[str, str]], gap: str
) -> None:
    """Written out line by line, each key is found on the line it was written to."""
    text = ""
    expected: dict[KeyPath, int] = {}
    for name, table in tables.items():
        text += gap
        expected[name,] = text.count("\n") + 1
        text += f"[{name}]\n"
        for key, value in table.items():
            text += gap
            expected[name, key] = text.count("\n") + 1
            text += f"{key} = {value} # [x]\n"
    found = key_lines(text)
    assert {path: line for path, line in found.items() if path in expected} == expected
    assert all(_exists(path, tomllib.loads(text)) for path in found)


def _exists(path: KeyPath, node: Any) -> bool:
    for part in path:
        if part not in node:
            return False
        node = node[part]
    return True
