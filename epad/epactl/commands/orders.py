"""Give the daemon its orders. Each is recorded with its reason, and can be rehearsed."""

from __future__ import annotations

from epad.api.client import quote
from epad.epactl import render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call, unknown_subsystem
from epad.epactl.consent import NOTHING_DONE, agreed
from epad.formatting.text import clean


def quarantine(call: Call) -> int:
    """`epactl quarantine NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/quarantine")


def release(call: Call) -> int:
    """`epactl release NAME [--reason R]`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/release")


def pause(call: Call) -> int:
    """`epactl pause NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/pause")


def resume(call: Call) -> int:
    """`epactl resume NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/resume")


def restart(call: Call) -> int:
    """`epactl restart NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/restart")


def stop(call: Call) -> int:
    """`epactl stop NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/stop")


def reload(call: Call) -> int:
    """`epactl reload --reason R`."""
    return order(call, "/v1/reload")


def key_rotate(call: Call) -> int:
    """`epactl key rotate NAME --reason R`."""
    return order(call, f"/v1/subsystems/{quote(call.arguments.name)}/key/rotate")


def key_revoke(call: Call) -> int:
    """`epactl key revoke NAME --reason R`."""
    name = call.arguments.name
    deed = f"takes every key of {clean(name)} away, which is refused until it has a new one"
    return dangerous(call, f"/v1/subsystems/{quote(name)}/key/revoke", deed)


def lifeboat_enter(call: Call) -> int:
    """`epactl lifeboat enter --reason R [--yes]`."""
    return dangerous(call, "/v1/lifeboat", "saves what is critical and stops every subsystem")


def checkpoint_create(call: Call) -> int:
    """`epactl checkpoint create --reason R`."""
    return order(call, "/v1/checkpoint")


def ledger_accept_loss(call: Call) -> int:
    """`epactl ledger accept-loss --reason R`."""
    return dangerous(call, "/v1/ledger/accept-loss", "gives up the records that are lost, for good")


def datastore_accept(call: Call) -> int:
    """`epactl datastore accept NAME --reason R`."""
    return order(call, f"/v1/datastores/{quote(call.arguments.name)}/accept")


def dangerous(call: Call, target: str, deed: str) -> int:
    """Ask a person before an order is given, unless it is only rehearsed. Raises UsageError."""
    if not call.arguments.dry_run and not agreed(call, deed):
        return EXIT_FAILED
    return order(call, target)


def order(call: Call, target: str) -> int:
    """Give an order with the reason of the command line, and show its result."""
    if call.arguments.dry_run:
        return rehearse(call, target)
    answer = call.client.order(target, call.arguments.reason)
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer.get("failed") else EXIT_OK


def rehearse(call: Call, target: str) -> int:
    """Say which order would be given, and the present state of its subject; give none. Raises UnknownNameError."""
    name, status = getattr(call.arguments, "name", None), call.client.get("/v1/status")
    asked = target.removeprefix("/v1/").replace("subsystems/", "")
    answer = {"order": asked, "dry_run": True, "phase": status["phase"], "reason": call.arguments.reason}
    about = f"the phase is {status['phase']}"
    if name is not None and target.startswith("/v1/subsystems/"):
        chosen = [subsystem for subsystem in status["subsystems"] if subsystem["name"] == name]
        if not chosen:
            raise unknown_subsystem(name, status)
        answer |= {"subsystem": name, "state": chosen[0]["state"], "hold": chosen[0]["hold"]["rung"]}
        about = f"{clean(name)} is {chosen[0]['state']}, its hold is {chosen[0]['hold']['rung']}; {about}"
    call.terminal.show(answer, [f"would order {asked}: {about}", NOTHING_DONE])
    return EXIT_OK
