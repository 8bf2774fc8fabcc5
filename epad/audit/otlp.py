"""Write rows of the audit as OTLP logs in JSON: each line is the body of one POST to a collector's /v1/logs.

The file may also be given to a collector's otlpjsonfile receiver. A whole number is a string in it, and a trace's id is
hexadecimal, as OTLP's JSON has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from epad.audit.cef import severity
from epad.audit.row import Row

ROWS_A_LINE: Final = 500
"""Collectors take 20 MiB a request by default; a row has 6 KiB at most."""
_SEVERITIES: Final = {3: (9, "INFO"), 6: (13, "WARN"), 8: (17, "ERROR")}
_is_trace = re.compile("[0-9a-f]{32}").fullmatch


def otlp_lines(rows: Iterable[Row], version: str, host: str) -> Iterator[str]:
    """Yield a line for each ROWS_A_LINE rows."""
    remaining = iter(rows)
    while batch := list(islice(remaining, ROWS_A_LINE)):
        yield json.dumps(_request(batch, version, host), separators=(",", ":"))


def _request(rows: Sequence[Row], version: str, host: str) -> dict[str, Any]:
    resource = {"service.name": "epad", "service.version": version, "host.name": host}
    scope = {"name": "epad.audit", "version": version}
    logs = {"scope": scope, "logRecords": [_log_record(row) for row in rows]}
    return {"resourceLogs": [{"resource": {"attributes": _attributes(resource)}, "scopeLogs": [logs]}]}


def _log_record(row: Row) -> dict[str, Any]:
    number, text = _SEVERITIES[severity(row)]
    named = {
        "epad.audit.id": row.id,
        "epad.audit.kind": row.kind,
        "epad.audit.outcome": row.outcome,
        "epad.subsystem": row.subsystem,
        "gen_ai.conversation.id": row.session,
        "enduser.id": row.who,
    }
    details = {f"epad.audit.details.{name}": value for name, value in row.details.items()}
    record = {
        "timeUnixNano": str(max(row.happened_ns, 0)),
        "observedTimeUnixNano": str(max(row.wall_ns, 0)),
        "severityNumber": number,
        "severityText": text,
        "eventName": row.event,
        "body": {"stringValue": row.what},
        "attributes": _attributes({**named, **details}),
    }
    turn = str(row.details.get("turn", ""))
    return record | {"traceId": turn} if _is_trace(turn) and turn.strip("0") else record


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": name, "value": _value(value)} for name, value in values.items() if value not in ("", None)
    ]


def _value(value: Any) -> dict[str, Any]:
    """Return a value as OTLP's AnyValue."""
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)} if abs(value) < 1 << 63 else {"stringValue": str(value)}
        case float():
            return {"doubleValue": value}
        case Mapping():
            return {
                "kvlistValue": {"values": [{"key": str(k), "value": _value(v)} for k, v in value.items()]}
            }
        case list() | tuple():
            return {"arrayValue": {"values": [_value(one) for one in value]}}
        case _:
            return {"stringValue": "" if value is None else str(value)}
