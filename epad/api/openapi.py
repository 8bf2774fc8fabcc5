"""The OpenAPI document of the control API, made from its route table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

from statemachine.phase import Phase

MAX_REASON_CHARACTERS = 500

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_NUMBER = {"type": "number"}
_YES = {"type": "boolean"}
_ANY_OBJECT = {"type": "object", "additionalProperties": True}
_PHASE = {"type": "string", "enum": [phase.value for phase in Phase]}


class Describable(Protocol):
    """Gives the document the facts about a route."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def query(self) -> tuple[str, ...]: ...
    @property
    def body(self) -> str: ...


def document(routes: Iterable[Describable], version: str) -> dict[str, Any]:
    """Describe exactly these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "epad control API",
            "version": version,
            "description": "HTTP on a Unix socket. The caller's rights come from the socket's credentials.",
        },
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _operation(route: Describable) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", route.path)
    parameters = [{"name": n, "in": "path", "required": True, "schema": _TEXT} for n in names]
    parameters += [{"name": name, "in": "query", "schema": QUERY[name]} for name in route.query]
    described: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-z]+', '_', route.path)}".rstrip("_"),
        "parameters": parameters,
        "responses": {
            "200": {"description": route.summary, "content": _json(route.answer)},
            "default": {"description": "Why it was not done.", "content": _json("Error")},
        },
    }
    if route.method == "POST":
        described["requestBody"] = {"required": True, "content": _json(route.body)}
    return described


def _json(schema: str) -> dict[str, Any]:
    if schema in _STREAMS:
        return {"application/x-ndjson": {"schema": {"$ref": f"#/components/schemas/{_STREAMS[schema]}"}}}
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _object(**properties: Any) -> dict[str, Any]:
    """An object all of whose properties are there."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _with(known: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An object with properties that came later: an answer of an older daemon is without them."""
    return {**known, "properties": {**known["properties"], **more}}


def _order(**properties: Any) -> dict[str, Any]:
    """Return the schema of an order's body: the reason, and its other fields."""
    reason = {"type": "string", "minLength": 1, "maxLength": MAX_REASON_CHARACTERS}
    return {**_object(reason=reason, **properties), "additionalProperties": False}


def _array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _or_null(kind: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [kind, {"type": "null"}]}


_SENTENCE = {"$ref": "#/components/schemas/Sentence"}

_STREAMS = {"EventLines": "Event", "LogLines": "LogLine"}

QUERY = {
    "since": {
        "type": "integer",
        "description": "Events after this id; -n means the newest n.",
    },
    "limit": {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100},
    "follow": {
        "type": "integer",
        "enum": [0, 1],
        "default": 0,
        "description": "1: go on with what happens, as it does.",
    },
    "lines": {"type": "integer", "minimum": 0, "maximum": 10_000, "default": 100},
    "after": {"type": "integer", "description": "Lines printed since this second of UTC; -1 means all."},
    "subject": {"type": "string", "description": "A subsystem or a probe; without it, the last decision."},
}

SCHEMAS: dict[str, Any] = {
    "Order": _order(),
    "BudgetOrder": _order(
        limits={"type": "object", "additionalProperties": {"type": ["number", "null"]}, "minProperties": 1}
    ),
    "Budgets": _object(
        budgets=_array(
            _object(
                scope=_TEXT,
                name=_TEXT,
                limit=_NUMBER,
                used=_NUMBER,
                left=_or_null(_NUMBER),
                configured=_NUMBER,
                origin=_TEXT,
            )
        )
    ),
    "PhaseOrder": _order(phase=_PHASE),
    "Error": _object(error=_object(code=_TEXT, message=_TEXT, fix=_TEXT)),
    "Result": {
        "type": "object",
        "required": ["phase", "results"],
        "properties": {"phase": _TEXT, "results": _array(_TEXT), "subsystem": _TEXT, "failed": _YES},
    },
    "Document": _ANY_OBJECT,
    "Event": _object(id=_WHOLE, at=_TEXT, kind=_TEXT, subsystem=_TEXT, fields=_ANY_OBJECT),
    "LogLine": _object(line=_TEXT),
    "Recovery": _object(
        phase=_TEXT,
        attempts=_WHOLE,
        attempts_allowed=_WHOLE,
        running=_YES,
        recoveries_this_hour=_WHOLE,
        plan=_array(
            _object(
                target=_TEXT,
                action=_TEXT,
                why=_TEXT,
                sources=_array(_TEXT),
                after=_array(_TEXT),
                verified_by=_TEXT,
            )
        ),
        tried=_array(
            _object(
                operation=_WHOLE,
                at=_TEXT,
                state=_TEXT,
                sentence=_TEXT,
                evidence=_array(_object(id=_TEXT, text=_TEXT)),
                steps=_array(_ANY_OBJECT),
            )
        ),
        parked=_ANY_OBJECT,
        lost_turns=_array(
            _object(
                turn=_TEXT,
                subsystem=_TEXT,
                model=_TEXT,
                at=_TEXT,
                reserved_tokens=_WHOLE,
                idempotency_key=_or_null(_TEXT),
                attempts=_WHOLE,
                state=_TEXT,
                why=_TEXT,
            )
        ),
        trouble=_TEXT,
    ),
    "Phase": _object(
        phase=_TEXT,
        since=_TEXT,
        sentence=_TEXT,
        diagram=_TEXT,
        force=_ANY_OBJECT,
        history=_array(
            _object(
                id=_WHOLE,
                at=_TEXT,
                source=_TEXT,
                destination=_TEXT,
                trigger=_TEXT,
                guard=_TEXT,
                sentence=_TEXT,
                cause={},
            )
        ),
    ),
    "Explanation": _with(
        _object(
            subject=_TEXT,
            chain=_array(
                _object(
                    kind={
                        "type": "string",
                        "enum": ["event", "finding", "anomaly", "rule", "step", "result"],
                    },
                    id={},
                    at=_TEXT,
                    text=_TEXT,
                    fields=_ANY_OBJECT,
                )
            ),
        ),
        summary=_array(_SENTENCE),
    ),
    "Anomaly": _object(
        id={}, probe=_TEXT, subsystem=_TEXT, severity=_TEXT, reason=_TEXT, age_seconds=_NUMBER
    ),
    "Sentence": _object(who=_TEXT, what=_TEXT, since=_TEXT, why=_TEXT, until=_TEXT, do=_TEXT, line=_TEXT),
    "Subsystem": _with(
        _object(
            name=_TEXT,
            kind=_TEXT,
            state=_TEXT,
            essential=_YES,
            depends_on=_array(_TEXT),
            pid=_or_null(_WHOLE),
            restarts=_WHOLE,
            state_seconds=_or_null(_NUMBER),
            hung=_YES,
            status=_TEXT,
            progress=_or_null(_object(done=_WHOLE, total=_or_null(_WHOLE))),
            vram_wanted_bytes=_or_null(_WHOLE),
            memory_bytes=_or_null(_WHOLE),
            memory_max_bytes=_WHOLE,
            cpu_seconds=_or_null(_NUMBER),
            cpu_cores=_or_null(_NUMBER),
            processes=_or_null(_WHOLE),
            tokens=_object(input=_WHOLE, output=_WHOLE, turns=_WHOLE),
            spent_microusd=_WHOLE,
            budget={"type": "object", "additionalProperties": _object(limit=_WHOLE, used=_WHOLE)},
            hold=_object(rung=_TEXT, reason=_TEXT),
            log=_TEXT,
            embedded=_YES,
        ),
        sentence=_or_null(_SENTENCE),
        background=_YES,
    ),
    "Gpu": _object(
        gpu=_TEXT,
        vendor=_TEXT,
        name=_TEXT,
        uuid=_TEXT,
        age_seconds=_NUMBER,
        fresh=_YES,
        total_bytes=_WHOLE,
        used_bytes=_WHOLE,
        reserved_bytes=_WHOLE,
        ratio=_NUMBER,
        subsystems={"type": "object", "additionalProperties": _WHOLE},
        foreign_bytes=_WHOLE,
        unattributed_bytes=_or_null(_WHOLE),
        bytes_per_second=_or_null(_NUMBER),
        exhaustion_seconds=_or_null(_NUMBER),
        history=_array(_array(_NUMBER)),
        xids={"type": "object", "additionalProperties": _TEXT},
    ),
    "Host": _object(
        fresh=_YES,
        pressure={"type": "object", "additionalProperties": _object(some=_NUMBER, full=_NUMBER)},
        memory_bytes=_or_null(_WHOLE),
        available_bytes=_or_null(_WHOLE),
        disk_free_bytes=_or_null(_WHOLE),
        disk_total_bytes=_or_null(_WHOLE),
        free_inodes=_or_null(_WHOLE),
        lag_seconds=_NUMBER,
    ),
    "Status": _with(
        _object(
            version=_TEXT,
            pid=_WHOLE,
            state_directory=_TEXT,
            config_file=_TEXT,
            phase=_TEXT,
            phase_number=_WHOLE,
            phase_since=_TEXT,
            phase_seconds=_NUMBER,
            sentence=_TEXT,
            uptime_seconds=_NUMBER,
            anomalies=_array({"$ref": "#/components/schemas/Anomaly"}),
            incidents=_array(
                _object(
                    root=_TEXT,
                    reason=_TEXT,
                    age_seconds=_NUMBER,
                    victims=_array(_TEXT),
                    settled=_YES,
                    flapping=_YES,
                )
            ),
            subsystems=_array({"$ref": "#/components/schemas/Subsystem"}),
            probes=_array(_object(name=_TEXT, success=_YES, age_seconds=_or_null(_NUMBER), note=_TEXT)),
            gpus=_array({"$ref": "#/components/schemas/Gpu"}),
            host={"$ref": "#/components/schemas/Host"},
            engine=_TEXT,
            gateway=_object(url=_TEXT),
            upstreams=_array(
                _object(
                    name=_TEXT,
                    url=_TEXT,
                    healthy=_YES,
                    state=_TEXT,
                    breaker=_TEXT,
                    reason=_TEXT,
                    seconds=_NUMBER,
                    retry_seconds=_NUMBER,
                    server=_TEXT,
                    served_by=_TEXT,
                )
            ),
            budgets={
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": _object(limit=_WHOLE, used=_WHOLE),
                },
            },
            checkpoint=_or_null(_object(id=_TEXT, verified=_YES, faults=_array(_TEXT))),
            metrics=_object(url=_TEXT),
            web=_object(url=_TEXT),
            ledger=_object(records=_WHOLE, verdict=_TEXT, detail=_TEXT, unchecked=_WHOLE),
            notices=_array(_TEXT),
        ),
        sentences=_array(_SENTENCE),
    ),
}
