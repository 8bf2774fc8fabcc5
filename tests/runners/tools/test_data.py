"""Tools of data, with inputs that make naive readers hang, swell or run something; each has a twin that works."""

from __future__ import annotations

from typing import Any

import pytest
from tool_process import World

LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><a>&b;</a>'
FOREIGN = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name}\n  <<: [{', '.join([f'*{before}'] * 40)}]\n"
    for before, name in zip("abcdef", "bcdefg", strict=True)
)

HOSTILE = [
    ("yaml_parse", {"data": BOMB}, "nodes"),
    ("yaml_parse", {"data": "&a [*a]"}, "holds itself"),
    (
        "yaml_parse",
        {"data": "!!python/object/apply:os.system ['touch /tmp/x']"},
        "Python objects are refused",
    ),
    ("yaml_parse", {"data": "[" * 5000 + "]" * 5000}, "nested"),
    ("yaml_parse", {"data": "a: [1"}, "not YAML"),
    ("yaml_parse", {"data": "x" * ((1 << 20) + 1)}, "takes 1048576"),
    ("xml_parse", {"data": LAUGHS}, "no entities"),
    ("xml_parse", {"data": FOREIGN}, "no entities"),
    ("xml_parse", {"data": '<!DOCTYPE a SYSTEM "http://127.0.0.1/x"><a/>'}, "DOCTYPE"),
    ("xml_parse", {"data": "<a>" * 3000 + "</a>" * 3000}, "nested"),
    ("xml_parse", {"data": "<a>"}, "not XML"),
    ("xml_parse", {"data": "<a/>", "query": "["}, "not XML that is read"),
    ("yaml_parse", {"data": "[" * 200_000}, "nested"),
    ("yaml_parse", {"data": "- " * 100_000}, "nested"),
    ("yaml_parse", {"data": "a: 0x" + "f" * 100_000}, "4,300 digits"),
    ("toml_parse", {"data": "a = 0x" + "f" * 100_000}, "4,300 digits"),
    ("xml_parse", {"data": "<a/>", "query": "///[["}, "not XML that is read"),
    ("toml_parse", {"data": "a = 1\na = 2"}, "not TOML"),
    ("toml_parse", {"data": "a = " + "[" * 5000}, "nested"),
    ("ini_parse", {"data": "[a]\nb=1\nb=2\n"}, "not INI"),
    ("ini_parse", {"data": "b=1\n"}, "not INI"),
    ("csv_parse", {"data": "a,b\n1,\0\n"}, "NUL"),
    ("csv_parse", {"data": '"' + "x" * 200_000}, "not CSV"),
    ("json_query", {"data": '{"a": NaN}'}, "NaN is not JSON"),
    ("json_query", {"data": "[" * 200_000}, "nested"),
    ("json_query", {"data": '"\\ud800"'}, "surrogate"),
    ("json_query", {"data": "{'a': 1}"}, "not JSON"),
    ("json_query", {"data": "1" * 5000}, "not JSON"),
    ("json_query", {"data": "{}", "query": "a[?"}, "the query is wrong"),
    ("json_query", {"data": "{}", "query": "sum(@)"}, "the query is wrong"),
    ("json_query", {"data": "{}", "query": "(" * 3000}, "query"),
    ("json_format", {"data": '{"a":1,"a":2}'}, "there twice"),
    ("json_query", {}, "either `data` or `path`"),
    ("json_query", {"data": "1", "path": "data.json"}, "either `data` or `path`"),
    ("json_query", {"path": "../secret.txt"}, "outside"),
    ("json_query", {"path": "latin.json"}, "not UTF-8"),
]


@pytest.mark.parametrize(("tool", "arguments", "said"), HOSTILE)
def test_hostile_data_is_refused_with_the_reason(
    world: World, tool: str, arguments: dict[str, Any], said: str
) -> None:
    """By the tool itself, within its limits."""
    (world.root / "latin.json").write_bytes(b'"\xe9"')
    assert said in world.worker.refusal(tool, **arguments)


SLOW = [
    ("toml_parse", {"data": "".join(f"{'.'.join(['a'] * 300)}.k{number} = 1\n" for number in range(1500))}),
    ("yaml_parse", {"data": MERGES}),
]


@pytest.mark.parametrize(("tool", "arguments"), SLOW)
def test_what_takes_for_ever_is_ended(world: World, tool: str, arguments: dict[str, Any]) -> None:
    """By its timeout, or refused before: it holds no other call."""
    answer = world.worker.answer(tool, arguments, timeout=2)
    assert "result" in answer or answer["ended"] in {"timeout", "error", "killed"}
    assert world.worker("json_format", data="[1]")["text"] == "[\n  1\n]"


VALUES = [
    (
        "yaml_parse",
        {"data": "a: &x [1]\nb: *x\nday: 2026-11-30\n1: yes\n"},
        {"a": [1], "b": [1], "day": "2026-11-30", "1": True},
    ),
    ("yaml_parse", {"data": "--- 1\n--- 2\n"}, [1, 2]),
    ("yaml_parse", {"data": ""}, None),
    ("yaml_parse", {"data": "a: .nan\nb: !!binary aGk=\n"}, {"a": "nan", "b": "aGk="}),
    ("toml_parse", {"data": "a.b = 1979-05-27T07:32:00Z\n"}, {"a": {"b": "1979-05-27T07:32:00+00:00"}}),
    (
        "ini_parse",
        {"data": "[DEFAULT]\nx=1\n[a]\nB=%(y)s\nc\n"},
        {"a": {"x": "1", "B": "%(y)s", "c": None}, "DEFAULT": {"x": "1"}},
    ),
    (
        "xml_parse",
        {"data": "<a>\n<b i='1'>x</b></a>"},
        {"tag": "a", "children": [{"tag": "b", "attributes": {"i": "1"}, "text": "x"}]},
    ),
    (
        "xml_parse",
        {"data": "<?xml version='1.0' encoding='utf-8'?><a><b/><b>1</b></a>", "query": "b"},
        [{"tag": "b"}, {"tag": "b", "text": "1"}],
    ),
]


@pytest.mark.parametrize(("tool", "arguments", "value"), VALUES)
def test_plain_data_becomes_its_value(
    world: World, tool: str, arguments: dict[str, Any], value: object
) -> None:
    """The benign twins: times as texts, keys as texts, aliases in full, nothing interpolated."""
    assert world.worker(tool, **arguments) == {"value": value}


def test_json_is_queried_and_cut(world: World) -> None:
    """By expression and limit; keys that are there twice are told."""
    data = '{"items": [{"n": 1}, {"n": 2}, {"n": 3}], "a": 1, "a": 2}'
    found = world.worker("json_query", data=data, query="items[?n > `1`].n", limit=1)
    assert found == {"value": [2], "truncated": True, "duplicates": ["a"]}
    assert world.worker("json_query", data="[12345678901234567890123]")["value"] == [
        "12345678901234567890123"
    ]
    assert world.worker("json_query", path="data.json", query="items[0]") == {"value": 1, "truncated": False}
    assert (
        world.worker("json_format", data='{"b":"ü","a":1}', indent=0, sort=True)["text"] == '{"a":1,"b":"ü"}'
    )


@pytest.mark.parametrize(
    ("data", "options", "columns", "rows", "total"),
    [
        ("a;b\n1;2\n", {}, ["a", "b"], [["1", "2"]], 1),
        ("a\tb,c\n1\t2,3\n", {}, ["a", "b,c"], [["1", "2,3"]], 1),
        ('a,b\n"x, y","two\nlines"\n', {"delimiter": ","}, ["a", "b"], [["x, y", "two\nlines"]], 1),
        ("1,2\n3,4\n", {"header": False, "limit": 1}, [], [["1", "2"]], 2),
        ("\ufeffa,b\r\n1\r\n\r\n", {}, ["a", "b"], [["1"]], 1),
        ("", {}, [], [], 0),
        ("a,b\n", {}, ["a", "b"], [], 0),
    ],
)
def test_csv_is_parsed(
    world: World, data: str, options: dict[str, Any], columns: list[str], rows: list[list[str]], total: int
) -> None:
    """With its delimiter found, quotes, ragged rows, a byte order mark, and nothing."""
    assert world.worker("csv_parse", data=data, **options) == {
        "columns": columns,
        "rows": rows,
        "total": total,
    }
