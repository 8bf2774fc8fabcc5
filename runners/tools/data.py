"""Tools of the category `data`: read a format into a value, from `data` or from a file of the workspace."""

from __future__ import annotations

import configparser
import csv
import io
import json
import tomllib
from collections.abc import Iterator
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, UnsetType

from runners.tools import beneath, optional, output
from runners.tools.plain import MOST_DEPTH, plain
from runners.tools.signature import Args, PathArg, Result, ToolError, meta

_JMESPATH: Final = optional.load("jmespath")
_YAML: Final = optional.load("yaml")
_DEFUSED: Final = optional.load("defusedxml.ElementTree")
_MOST_BYTES: Final = 8 << 20
_MOST_SLOW_BYTES: Final = 1 << 20
"""For parsers whose time can grow faster than their input: TOML and YAML."""


class SourceArgs(Args, frozen=True):
    """Holds the text, or names its file."""

    data: str | None = None
    path: PathArg | None = None


class ValueResult(Result, frozen=True):
    """Holds a value."""

    value: Any


class QueryArgs(SourceArgs, frozen=True, kw_only=True):
    """Holds JSON and a JMESPath expression."""

    query: Annotated[str, Meta(max_length=4000)] = "@"
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class QueryResult(Result, frozen=True):
    """Holds what the query found; `duplicates` names keys that an object has twice (the last one counts)."""

    value: Any
    truncated: bool
    duplicates: list[str] | UnsetType = UNSET


JSON_QUERY: Final = meta(
    "json_query",
    QueryArgs,
    QueryResult,
    risk="R1",
    timeout=10,
    description="Query JSON by JMESPath, from data or a file; a list is cut to limit items.",
    examples=({"data": '{"a": [{"b": 1}, {"b": 2}]}', "query": "a[].b"}, {"path": "data.json"}),
)


@JSON_QUERY.tool
async def json_query(args: QueryArgs) -> QueryResult:
    """Query by jmespath; the identity `@` needs no library."""
    duplicates: list[str] = []
    value = parsed_json(source(args, _MOST_BYTES), duplicates)
    if args.query.strip() != "@":
        value = _searched(args.query, value)
    found, cut = plain(value), False
    if isinstance(found, list):
        found, cut = output.cut_items(found, args.limit)
    told = sorted(set(duplicates))[:20] or UNSET
    return QueryResult(value=output.whole(found, "query for less"), truncated=cut, duplicates=told)


def _searched(query: str, value: Any) -> Any:
    jmespath = optional.need(_JMESPATH, "jmespath")
    try:
        return jmespath.search(query, value)
    except (jmespath.exceptions.JMESPathError, ValueError, TypeError) as error:
        raise ToolError(
            f"the query is wrong: {error}"[:500], "JMESPath, as in items[?price > `10`].name"
        ) from None


def parsed_json(text: str, duplicates: list[str]) -> Any:
    """Return JSON's value, and add the keys that an object has twice. Raises ToolError, for NaN too."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(found)
        if len(value) < len(found):
            seen: set[str] = set()
            duplicates.extend(key for key, _ in found if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return value

    def refuse(name: str) -> Any:
        raise ToolError(f"{name} is not JSON", "use null or a text instead")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=refuse)
    except ValueError as error:
        raise ToolError(
            f"not JSON: {error}", "JSON has double quotes, no comments and no comma at the end"
        ) from None


class FormatArgs(Args, frozen=True):
    """Holds JSON and its new form; an indent of 0 makes one line."""

    data: str
    indent: Annotated[int, Meta(ge=0, le=8)] = 2
    sort: bool = False


class FormatResult(Result, frozen=True):
    """Holds a text."""

    text: str


JSON_FORMAT: Final = meta(
    "json_format",
    FormatArgs,
    FormatResult,
    risk="P",
    timeout=5,
    description="Format JSON: indent (0 is one line), sorted keys. Duplicate keys are refused.",
    examples=({"data": '{"b":1,"a":[1,2]}', "sort": True},),
)


@JSON_FORMAT.tool
async def json_format(args: FormatArgs) -> FormatResult:
    """Format; a key that is there twice would be lost, so it is refused."""
    duplicates: list[str] = []
    value = plain(parsed_json(args.data, duplicates))
    if duplicates:
        raise ToolError(
            f"the key {duplicates[0]!r} is there twice in one object", "rename or remove one of them"
        )
    separators = (",", ":") if not args.indent else None
    text = json.dumps(
        value, indent=args.indent or None, sort_keys=args.sort, ensure_ascii=False, separators=separators
    )
    return FormatResult(text=output.whole(text, "format less at once"))


class CsvArgs(SourceArgs, frozen=True, kw_only=True):
    """Holds CSV; without a delimiter the one that parts the first lines most evenly is taken."""

    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] | None = None
    header: bool = True
    limit: Annotated[int, Meta(ge=0, le=10_000)] = 100


class CsvResult(Result, frozen=True):
    """Holds the first rows; `total` counts all of them, without the header."""

    columns: list[str]
    rows: list[list[str]]
    total: int


CSV_PARSE: Final = meta(
    "csv_parse",
    CsvArgs,
    CsvResult,
    risk="R1",
    timeout=20,
    description="Parse CSV from data or a file: columns, the first rows, the total of rows.",
    examples=({"data": "name,age\nann,3\nbob,4\n"}, {"path": "table.csv", "limit": 1}),
)


@CSV_PARSE.tool
async def csv_parse(args: CsvArgs) -> CsvResult:
    """Parse row by row."""
    text = source(args, _MOST_BYTES)
    if "\0" in text:
        raise ToolError(
            f"NUL at character {text.index(chr(0))}: that is not CSV", "file_stat tells what the file is"
        )
    rows = _csv_rows(text.removeprefix("\ufeff"), args.delimiter or sniffed(text))
    columns = next(rows, []) if args.header else []
    kept, _ = output.cut_items(rows, args.limit)
    counted = _csv_rows(text.removeprefix("\ufeff"), args.delimiter or sniffed(text))
    total = sum(1 for _ in counted) - (1 if args.header and text.strip() else 0)
    return CsvResult(columns=columns, rows=kept, total=max(0, total))


def _csv_rows(text: str, delimiter: str) -> Iterator[list[str]]:
    try:
        yield from (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row)
    except (csv.Error, ValueError, TypeError) as error:
        raise ToolError(f"not CSV: {error}", "check the quotes and the delimiter") from None


def sniffed(text: str) -> str:
    """Return the delimiter that is in most of the first lines, the same number of times; commas are in texts too."""
    lines = [line for line in text[:65536].splitlines()[:50] if line]
    if not lines:
        return ","

    def score(delimiter: str) -> tuple[int, int]:
        counts = [count for line in lines if (count := line.count(delimiter))]
        common = max(set(counts), key=counts.count, default=0)
        return counts.count(common), common

    return max("\t;|,", key=score)


YAML_PARSE: Final = meta(
    "yaml_parse",
    SourceArgs,
    ValueResult,
    risk="R1",
    timeout=10,
    description="Parse YAML from data or a file; several documents become a list.",
    examples=({"data": "name: ann\nages: [3, 4]\n"}, {"path": "config.yaml"}),
)


@YAML_PARSE.tool
async def yaml_parse(args: SourceArgs) -> ValueResult:
    """Parse by the safe loader. Aliases count as often as they are used, while the value is made."""
    yaml = optional.need(_YAML, "pyyaml")
    text = source(args, _MOST_SLOW_BYTES)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _refuse_deep_yaml(yaml, text, loader)
        documents = list(yaml.load_all(text, Loader=loader))
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise ToolError(f"not YAML: {error}"[:500], "tags that make Python objects are refused") from None
    value = documents[0] if len(documents) == 1 else documents
    return ValueResult(value=output.whole(plain(value if documents else None), "parse a smaller document"))


def _refuse_deep_yaml(yaml: Any, text: str, loader: Any) -> None:
    """Raise ToolError for a deep document, by its events: the library makes the value by recursion in C."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        kind = type(event).__name__
        if kind in {"SequenceStartEvent", "MappingStartEvent"}:
            depth += 1
        elif kind in {"SequenceEndEvent", "MappingEndEvent"}:
            depth -= 1
        if depth > MOST_DEPTH:
            raise ToolError(f"the document is nested over {MOST_DEPTH} deep", "give a flatter document")


TOML_PARSE: Final = meta(
    "toml_parse",
    SourceArgs,
    ValueResult,
    risk="R1",
    timeout=10,
    description="Parse TOML from data or a file.",
    examples=({"data": 'name = "ann"\n[ages]\nfirst = 3\n'}, {"path": "config.toml"}),
)


@TOML_PARSE.tool
async def toml_parse(args: SourceArgs) -> ValueResult:
    """Parse by tomllib."""
    try:
        value = tomllib.loads(source(args, _MOST_SLOW_BYTES))
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise ToolError(f"not TOML: {error}", "texts have quotes; a table begins with [name]") from None
    return ValueResult(value=output.whole(plain(value), "parse a smaller document"))


INI_PARSE: Final = meta(
    "ini_parse",
    SourceArgs,
    ValueResult,
    risk="R1",
    timeout=10,
    description="Parse an INI file from data or a file: sections with their keys.",
    examples=({"data": "[main]\nname = ann\n"}, {"path": "config.ini"}),
)


@INI_PARSE.tool
async def ini_parse(args: SourceArgs) -> ValueResult:
    """Parse without interpolation, names as they are written."""
    parser = configparser.RawConfigParser(allow_no_value=True, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(source(args, _MOST_SLOW_BYTES), "data")
    except (configparser.Error, ValueError) as error:
        raise ToolError(
            f"not INI: {error}"[:500], "a section begins with [name]; keys are not repeated"
        ) from None
    value = {name: dict(parser.items(name)) for name in parser.sections()}
    if defaults := dict(parser.defaults()):
        value["DEFAULT"] = defaults
    return ValueResult(value=output.whole(plain(value), "parse a smaller document"))


class XmlArgs(SourceArgs, frozen=True, kw_only=True):
    """Holds XML and, if wanted, a path of elements as ElementTree takes it."""

    query: Annotated[str, Meta(max_length=1000)] | None = None


XML_PARSE: Final = meta(
    "xml_parse",
    XmlArgs,
    ValueResult,
    risk="R1",
    timeout=10,
    description="Parse XML from data or a file; query is a path like ./item[@id]. No DOCTYPE.",
    examples=({"data": "<a><b id='1'>x</b></a>", "query": "./b"}, {"path": "feed.xml"}),
)


@XML_PARSE.tool
async def xml_parse(args: XmlArgs) -> ValueResult:
    """Parse by defusedxml."""
    defused = optional.need(_DEFUSED, "defusedxml")
    try:
        tree = defused.fromstring(source(args, _MOST_BYTES), forbid_dtd=True)
        value = (
            _element(tree) if args.query is None else [_element(each) for each in tree.findall(args.query)]
        )
    except (defused.ParseError, SyntaxError, KeyError, ValueError, TypeError) as error:
        told = type(error).__name__ if "Forbidden" in type(error).__name__ else error
        raise ToolError(
            f"not XML that is read: {told}", "no DOCTYPE, no entities; the query is ElementTree's"
        ) from None
    return ValueResult(value=output.whole(plain(value), "query for less"))


def _element(element: Any) -> dict[str, Any]:
    """Return an element as an object, without what it does not have."""
    value: dict[str, Any] = {"tag": element.tag}
    if element.attrib:
        value["attributes"] = dict(element.attrib)
    if text := (element.text or "").strip():
        value["text"] = text
    if len(element):
        value["children"] = [_element(child) for child in element]
    return value


def source(args: SourceArgs, limit: int) -> str:
    """Return the text of the arguments. Raises ToolError unless there is exactly one, not too long, in UTF-8."""
    if (args.data is None) == (args.path is None):
        raise ToolError("give either `data` or `path`", "`data` is the text, `path` a file of the workspace")
    if args.path is None:
        text = str(args.data)
        if len(text) > limit:
            raise ToolError(
                f"the data has {len(text)} characters; this tool takes {limit}", "give a part of it"
            )
        return text
    data = beneath.read_whole(args.path, limit)
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ToolError(
            f"{args.path!r} is not UTF-8 at byte {error.start}", "file_read takes other encodings"
        ) from None


TOOLS: Final[tuple[Any, ...]] = (
    CSV_PARSE,
    INI_PARSE,
    JSON_FORMAT,
    JSON_QUERY,
    TOML_PARSE,
    XML_PARSE,
    YAML_PARSE,
)
