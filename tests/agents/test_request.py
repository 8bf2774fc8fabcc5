"""A request is data: it names no program, no parent, and nothing of it is ever run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from epad.agents.request import MOST_INPUT_BYTES, SpawnRefusedError, command_of, read_request
from epad.configuration.agent_schema import AgentConfig, ParameterConfig

TEMPLATE = AgentConfig(
    ("prog", "--file={file}", "{mode}", "{count}"),
    ("planner",),
    parameters={
        "file": ParameterConfig(pattern=r"[^;]+"),
        "mode": ParameterConfig(pattern=r".*"),
        "count": ParameterConfig(least=1, most=9),
    },
)
GIVEN: dict[str, str | int] = {"file": "a b/c", "mode": "fast", "count": 3}


def test_parameters_stand_in_their_places_as_they_are() -> None:
    """No shell reads them, so neither a space nor a dollar means anything; and none is filled in again."""
    tricky = {**GIVEN, "file": "$(x) {mode} `y`"}
    assert command_of("t", TEMPLATE, tricky) == ("prog", "--file=$(x) {mode} `y`", "fast", "3")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("file", "a;b", "does not match"),
        ("file", 3, "is no text"),
        ("file", "x" * 201, "more than 200"),
        ("file", "a\nb", "cannot be seen"),
        ("file", "a\u202eb", "cannot be seen"),
        ("mode", "--rm", "taken for an option"),
        ("mode", "-", "taken for an option"),
        ("count", 0, "may be 1 to 9"),
        ("count", "3", "no whole number"),
        ("count", True, "no whole number"),
        ("command", "x", "is no parameter"),
    ],
)
def test_a_wrong_parameter_is_named(name: str, value: Any, why: str) -> None:
    with pytest.raises(SpawnRefusedError, match=why) as caught:
        command_of("t", TEMPLATE, {**GIVEN, name: value})
    assert (caught.value.row, caught.value.status) == ("spawn/parameters", 400)


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(SpawnRefusedError, match="count is missing"):
        command_of("t", TEMPLATE, {"file": "a", "mode": "b"})


@pytest.mark.parametrize(
    "change",
    [
        {"command": ["sh"]},
        {"parent": "boss"},
        {"subsystem": "boss"},
        {"session": "0" * 32},
        {"confine": {"profile": "open"}},
        {"environment": {}},
        {"reason": ""},
        {"reason": "  "},
        {"reason": "x" * 301},
        {"tier": "root"},
        {"tier": 3},
        {"budget": {"tokens": 0}},
        {"budget": {"tokens": -5}},
        {"budget": {"tokens": 1e99}},
        {"budget": {"usd": -1}},
        {"input": "x" * (MOST_INPUT_BYTES + 1)},
        {"template": None},
    ],
)
def test_what_a_request_may_not_say(change: dict[str, Any]) -> None:
    body = {"template": "t", "reason": "r", **change}
    with pytest.raises(SpawnRefusedError) as caught:
        read_request(json.dumps(body).encode())
    assert (caught.value.row, caught.value.status) == ("spawn/request", 400)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_request(body: bytes) -> None:
    with pytest.raises(SpawnRefusedError):
        read_request(body)
