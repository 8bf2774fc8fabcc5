"""Documents cut into passages: each kind by what it is cited by."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runners.vault.errors import VaultError
from runners.vault.passages import MOST_CHARACTERS, passages_of
from runners.vault.stix import external_ids

MARKDOWN = b"""before

# Disk
text
```
# no heading
```
## Full ##
free some
# Mail
~~~
## neither
"""


def bundle(*objects: dict[str, Any]) -> bytes:
    return json.dumps({"type": "bundle", "id": "bundle--1", "objects": objects}).encode()


def test_markdown_is_cut_at_its_headings() -> None:
    """Each cited by the headings above it; a heading in a block of code is none."""
    found = passages_of("a.md", MARKDOWN)
    assert [one.section for one in found] == ["", "Disk", "Disk > Full", "Mail"]
    assert "# no heading" in found[1].text
    assert "## neither" in found[3].text


def test_json_is_cut_below_its_root() -> None:
    """Cited by pointers, with the values beside their places."""
    found = passages_of("a.json", b'{"hosts": ["a.example", {"port": 25}], "a/b": true}')
    assert [(one.section, one.text) for one in found] == [
        ("/hosts", "/0: a.example\n/1/port: 25"),
        ("/a~1b", "True"),
    ]
    assert passages_of("a.json", b'"alone"')[0].text == "alone"


def test_stix_is_cut_at_its_objects() -> None:
    """A relationship has the names of both its ends, a file its hashes, a revoked object says so."""
    pattern = {
        "type": "attack-pattern",
        "id": "attack-pattern--1",
        "name": "Interpreter",
        "revoked": True,
        "external_references": [{"source_name": "mitre-attack", "external_id": "T1059"}, "odd", {}],
    }
    tool = {"type": "malware", "id": "malware--2", "name": "Bad"}
    file = {"type": "file", "id": "file--4", "hashes": {"MD5": "abc123"}}
    link = {
        "type": "relationship",
        "id": "relationship--3",
        "relationship_type": "uses",
        "source_ref": "malware--2",
        "target_ref": "attack-pattern--1",
    }
    found = {one.section: one for one in passages_of("a.json", bundle(pattern, tool, link, file))}
    assert found["attack-pattern--1"].title == "attack-pattern Interpreter T1059 revoked"
    assert "malware Bad uses attack-pattern Interpreter T1059" in found["relationship--3"].text
    assert found["file--4"].title == "file abc123"
    assert external_ids(pattern) == ["T1059"]


def test_a_long_passage_is_cut_and_nothing_is_lost() -> None:
    """Where a line ends, if there is one."""
    for text in ("x" * 5_000, "\n".join(f"line {number}" for number in range(900))):
        found = passages_of("a.txt", text.encode())
        assert all(len(one.text) <= MOST_CHARACTERS for one in found)
        assert "".join(one.text for one in found).replace("\n", "") == text.replace("\n", "")
    assert all(not one.text.endswith("lin") for one in found)


@pytest.mark.parametrize(
    ("path", "data", "told"),
    [
        ("a.md", b"\xff\xfe", "byte 0 is 0xff"),
        ("a.json", b"{", "is no JSON"),
        ("a.json", b"[" * 100_000, "is no JSON"),
        ("a.json", bundle({"type": "malware"}), "has no id and type"),
        ("a.json", b'{"type": "bundle", "objects": {}}', "objects is no list"),
    ],
)
def test_what_is_no_such_document_is_refused(path: str, data: bytes, told: str) -> None:
    """With the place."""
    with pytest.raises(VaultError) as caught:
        passages_of(path, data)
    assert told in caught.value.message
    assert caught.value.hint


def test_deep_json_ends() -> None:
    found = passages_of("a.json", b"[" * 300 + b"]" * 300)
    assert len(found) == 1
