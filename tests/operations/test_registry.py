"""The registry: one row for each operation, and everything that reads it."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS
from planted_operation import ORDER, QUESTION

from epad.api import openapi
from epad.api.routes import HANDLERS, ROUTES
from epad.epactl.command_line import make_parser
from epad.epactl.commands.shell import nodes
from epad.operations import bodies
from epad.operations.implementation import DaemonOperations
from epad.operations.registry import Operation

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/support/planted_operation.py"
ORDERS = [operation for operation in Operation if operation.is_order]


def test_a_planted_operation_appears_everywhere_by_its_row_alone() -> None:
    """One order and one question, a line each: known to gate, API, OpenAPI, `epactl` and docs, and carried out."""
    assert ORDER.count("\n") == QUESTION.count("\n") == 1
    ran = subprocess.run(
        [sys.executable, SCRIPT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    *said, last = ran.stdout.splitlines()
    assert json.loads(last) == {
        "gate": [[True, False], [True, True]],
        "routes": [True, True],
        "openapi": ["Shake a subsystem.", "Show the weather."],
        "epactl": ["Shake a subsystem.", "Show the weather."],
        "help": [True, True],
        "man": [True, True],
        "docs": [True, True],
        "asked": [0, 0, ["shake", "chat", "to see"]],
    }
    assert said == ["chat: shake done", "phase: QUARANTINE", "sky: blue"]


@pytest.mark.parametrize("operation", ORDERS)
def test_an_order_has_its_method_with_what_its_row_names(operation: Operation) -> None:
    """The name of what it is about, what its body has beside the reason, the reason, and who gave it."""
    taken = list(inspect.signature(getattr(DaemonOperations, operation)).parameters)[1:]
    body = getattr(bodies, operation.body)
    assert issubclass(body, bodies.OrderBody)
    assert len(taken) == bool(operation.about) + len(body.__struct_fields__) + 1
    assert taken[-2:] == ["reason", "by"]


@pytest.mark.parametrize("operation", [one for one in ROUTES if not one.is_order and one not in HANDLERS])
def test_a_question_has_its_method_with_what_its_query_names(operation: Operation) -> None:
    """Whatever may be asked for may also be left out."""
    method = getattr(DaemonOperations, operation.removesuffix("_read"))
    assert tuple(inspect.signature(method).parameters)[1:] == operation.query


@pytest.mark.parametrize("operation", ROUTES)
def test_what_a_row_names_is_described(operation: Operation) -> None:
    """Its answer, its body and its query have a schema."""
    document = openapi.document([operation], "1")
    schemas = document["components"]["schemas"]
    assert operation.answer in schemas
    assert not operation.body or operation.body in schemas
    assert set(operation.query) <= openapi.QUERY.keys()


def test_each_command_of_a_row_is_one_of_epactl() -> None:
    """With the row's sentence; `--force` is an option of `phase`."""
    commands = {" ".join(node.words): node for node in nodes(make_parser())}
    for operation in Operation:
        command, _, option = operation.command.partition(" --")
        if operation.command and not option:
            assert commands[command].about == operation.words, operation
        elif option:
            assert f"--{option}" in commands[command].names, operation


def test_no_two_rows_are_asked_for_alike() -> None:
    """By method and path, and by command."""
    assert len({(operation.method, operation.path) for operation in ROUTES}) == len(ROUTES)
    commands = [operation.command for operation in Operation if operation.command]
    assert len(set(commands)) == len(commands)


@pytest.mark.parametrize("name", ["risk", "path", "words"])
def test_a_row_cannot_be_changed(name: str) -> None:
    """What an operation may do is decided where it is written."""
    with pytest.raises(AttributeError, match="cannot be changed"):
        setattr(Operation.PAUSE, name, "x")
