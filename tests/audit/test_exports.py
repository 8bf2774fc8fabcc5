"""CEF and OTLP: what other programs read out of a line is what the row holds."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pycef
import pytest
from audit_world import NOW_NS, a_day
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from epad.audit.cef import cef_line
from epad.audit.otlp import ROWS_A_LINE, otlp_lines
from epad.audit.row import Row
from epad.epactl.main import main

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
NASTY = st.text(st.sampled_from("\\|=\n\r ab\u2028\"'"), max_size=20)
ANY = TEXT | NASTY
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.builds(
    Row,
    id=st.integers(1, 1 << 62),
    happened_ns=st.integers(0, 1 << 62),
    wall_ns=st.integers(0, 1 << 62),
    kind=ANY,
    event=ANY,
    who=ANY,
    what=ANY,
    outcome=ANY,
    subsystem=ANY,
    session=ANY,
    details=st.dictionaries(ANY, JSON, max_size=3),
)


def read_cef(line: str) -> tuple[list[str], dict[str, str]]:
    r"""Read a line as the CEF standard has it: `\|` and `\\` in the head, `\=`, `\\`, `\n`, `\r` in values."""
    fields: list[str] = []
    rest = line
    while len(fields) < 7:
        found = re.match(r"((?:[^|\\]|\\[|\\])*)\|", rest, re.DOTALL)
        assert found, rest
        fields.append(re.sub(r"\\([|\\])", r"\1", found[1]))
        rest = rest[found.end() :]
    values = {}
    keys = list(re.finditer(r"(?:^| )([A-Za-z0-9]+)=", rest))
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        text = rest[key.end() : following.start() if following else len(rest)]
        assert re.fullmatch(r"(?:[^\\=\n\r]|\\[\\=nr])*", text, re.DOTALL), text
        values[key[1]] = re.sub(r"\\([\\=nr])", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), text)
    return fields, values


def without_breaks(text: str) -> str:
    return re.sub("[\v\f\x1c\x1d\x1e\x85\u2028\u2029]", " ", text)


@given(row=ROWS)
def test_a_line_of_cef_is_read_back(row: Row) -> None:
    """One line, whatever is in it; no value ends early, and none runs into the next."""
    line = cef_line(row, "0.1")
    assert len(line.splitlines()) == 1
    head, values = read_cef(line)
    assert head[:4] == ["CEF:0", "epad", "epad", "0.1"]
    assert head[4] == without_breaks(row.event).replace("\n", " ").replace("\r", " ")
    assert (values.get("suser", ""), values.get("msg", "")) == (
        without_breaks(row.who),
        without_breaks(row.what),
    )
    assert values["externalId"] == str(row.id)
    if row.details:
        assert json.loads(values["cs4"]) == json.loads(json.dumps(dict(row.details)))


def unescaped(text: str) -> str:
    return re.sub(r"\\([\\=nr])", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), text)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    asyncio.run(a_day(tmp_path / "ledger.db"))
    return tmp_path


def printed(state: Path, form: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["audit", "--since", "1970-01-01", "--format", form, "--state", str(state)]) == 0
    return capsys.readouterr().out.splitlines()


def test_another_parser_of_cef_reads_the_export(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """pycef, which leaves escapes as they are and puts labelled fields under their labels."""
    rows = [json.loads(line) for line in printed(state, "jsonl", capsys)]
    read = [pycef.parse(line) for line in printed(state, "cef", capsys)]
    assert len(read) == len(rows) == 16
    for values, row in zip(read, rows, strict=True):
        assert (values["DeviceVendor"], values["DeviceEventClassID"]) == ("epad", row["event"])
        assert (values["externalId"], values["outcome"]) == (str(row["id"]), row["outcome"])
        assert (unescaped(values["suser"]), unescaped(values.get("msg", ""))) == (row["who"], row["what"])
        assert values.get("subsystem", "") == row["subsystem"]
    egress = read[12]
    assert (egress["dhost"], egress["out"], egress["in"]) == ("api.example", "1200", "50000")


def parsed(line: str) -> ExportLogsServiceRequest:
    """A request as a collector reads it. Traces' ids are hexadecimal in OTLP's JSON, and base64 in protobuf's."""
    request = json.loads(line)
    for record in request["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
        if "traceId" in record:
            record["traceId"] = b64encode(bytes.fromhex(record["traceId"])).decode()
    return json_format.Parse(json.dumps(request), ExportLogsServiceRequest())


def value_of(value: Any) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [value_of(one) for one in value.array_value.values]
        case "kvlist_value":
            return {one.key: value_of(one.value) for one in value.kvlist_value.values}
        case None:
            return None
        case name:
            return getattr(value, name)


def test_a_collector_reads_the_export(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row is one log record of opentelemetry-proto's own messages, with nothing unknown in it."""
    rows = [json.loads(line) for line in printed(state, "jsonl", capsys)]
    (line,) = printed(state, "otlp", capsys)
    (resource,) = parsed(line).resource_logs
    assert {one.key: value_of(one.value) for one in resource.resource.attributes}["service.name"] == "epad"
    records = resource.scope_logs[0].log_records
    assert len(records) == len(rows)
    for record, row in zip(records, rows, strict=True):
        attributes = {one.key: value_of(one.value) for one in record.attributes}
        assert (record.event_name, value_of(record.body)) == (row["event"], row["what"])
        assert attributes["epad.audit.id"] == row["id"]
        assert attributes.get("enduser.id", "") == row["who"]
    assert records[12].time_unix_nano == NOW_NS
    assert {one.key: value_of(one.value) for one in records[12].attributes}[
        "epad.audit.details.sent_bytes"
    ] == 1_200
    assert records[3].trace_id.hex() == rows[3]["details"]["turn"]


@given(row=ROWS)
def test_any_row_is_a_log_record(row: Row) -> None:
    """Numbers beyond 64 bits, nested values, empty texts."""
    (line,) = otlp_lines([row], "0.1", "box")
    (record,) = parsed(line).resource_logs[0].scope_logs[0].log_records
    assert record.time_unix_nano == row.happened_ns
    assert value_of(record.body) == row.what


def test_rows_are_sent_in_batches() -> None:
    """A line is a request that a collector takes, and no row is left out."""
    rows = [
        Row(number, 1, 1, "order", "order.given", "ada", "x", "given")
        for number in range(1, ROWS_A_LINE * 2 + 2)
    ]
    sizes = [
        len(parsed(line).resource_logs[0].scope_logs[0].log_records)
        for line in otlp_lines(rows, "0.1", "box")
    ]
    assert sizes == [ROWS_A_LINE, ROWS_A_LINE, 1]
