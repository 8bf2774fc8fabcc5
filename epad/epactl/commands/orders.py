"""Give the daemon its orders. Each is recorded with its reason, and can be rehearsed."""

from __future__ import annotations

from epad.api.client import quote
from epad.epactl import render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call, tools_of, unknown_subsystem
from epad.epactl.consent import NOTHING_DONE, agreed
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


NO_REASON = "asked for"
"""Stands in the place of a reason where an order needs none of a person's."""

DANGEROUS = {
    Operation.REVOKE_KEY: "takes every key of {name} away, which is refused until it has a new one",
    Operation.LIFEBOAT: "saves what is critical and stops every subsystem",
    Operation.ACCEPT_LOSS: "gives up the records that are lost, for good",
}
"""What a person is asked about before it is done, in the present tense."""


def order_of(operation: Operation) -> Callable[[Call], int]:
    """Make the command of an order that needs nothing but its name and its reason."""
    return lambda call: order(call, operation)


def question_of(operation: Operation) -> Callable[[Call], int]:
    """Make the command of a question that has none of its own: it shows the answer as it is."""

    def ask(call: Call) -> int:
        answer = call.client.get(_target(call, operation))
        call.terminal.show(answer, [clean(f"{name}: {value}") for name, value in answer.items()])
        return EXIT_OK

    return ask


def order(call: Call, operation: Operation) -> int:
    """Give an order with the reason of the command line, and show its result; ask first if it is dangerous."""
    if call.arguments.dry_run:
        return rehearse(call, operation)
    deed = DANGEROUS.get(operation)
    if deed is not None and not agreed(call, deed.format(name=clean(getattr(call.arguments, "name", "")))):
        return EXIT_FAILED
    answer = call.client.order(_target(call, operation), call.arguments.reason)
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer.get("failed") else EXIT_OK


def _target(call: Call, operation: Operation) -> str:
    return operation.target(quote(call.arguments.name) if operation.about else "")


def rehearse(call: Call, operation: Operation) -> int:
    """Say which order would be given, and the present state of its subject; give none. Raises UnknownNameError."""
    status = call.client.get(Operation.STATUS_READ.path)
    asked = _target(call, operation).removeprefix("/v1/").replace("subsystems/", "")
    answer = {"order": asked, "dry_run": True, "phase": status["phase"], "reason": call.arguments.reason}
    about = f"the phase is {status['phase']}"
    if operation.about == "subsystem":
        name = call.arguments.name
        chosen = [subsystem for subsystem in status["subsystems"] if subsystem["name"] == name]
        if not chosen:
            return _rehearse_about_tools(call, name, answer, status)
        answer |= {"subsystem": name, "state": chosen[0]["state"], "hold": chosen[0]["hold"]["rung"]}
        about = f"{clean(name)} is {chosen[0]['state']}, its hold is {chosen[0]['hold']['rung']}; {about}"
    call.terminal.show(answer, [f"would order {asked}: {about}", NOTHING_DONE])
    return EXIT_OK


def _rehearse_about_tools(call: Call, name: str, answer: dict[str, Any], status: Mapping[str, Any]) -> int:
    """Say the same of an order about a tool, or about a category. Raises UnknownNameError."""
    category = tools_of(name, status)
    if category is None:
        raise unknown_subsystem(name, status)
    held = next((hold["rung"] for hold in category["held"] if hold["target"] == name), "open")
    answer |= {"subsystem": name, "state": category["state"], "hold": held}
    about = f"the hold of {clean(name)} is {held}; the phase is {status['phase']}"
    call.terminal.show(answer, [f"would order {answer['order']}: {about}", NOTHING_DONE])
    return EXIT_OK
