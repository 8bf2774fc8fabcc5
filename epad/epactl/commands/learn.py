"""Record a subsystem, and print the smallest policy that it needs: `epactl confine learn`."""

from __future__ import annotations

import os
import pwd
import time

from epad.api.client import quote
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call, UsageError, unknown_subsystem
from epad.epactl.commands.orders import rehearse
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from epad.answers.status import Status
    from epad.configuration.confine_schema import ConfineConfig
    from epad.configuration.schema import Config
    from epad.confinement.learning import Proposal
    from epad.confinement.policy import Policy

POLL_SECONDS = 1.0


def learn(call: Call) -> int:
    """`epactl confine learn NAME [--for 30m] --reason R`: an interruption ends the recording early."""
    if call.arguments.dry_run:
        return rehearse(call, Operation.LEARN)
    name, seconds = call.arguments.name, call.arguments.seconds
    if seconds is None:
        raise UsageError("a recording ends: give --for 30m, or another time")
    status: Status = call.client.get(Operation.STATUS_READ.path)
    if name not in {subsystem["name"] for subsystem in status["subsystems"]}:
        raise unknown_subsystem(name, status)
    answer = call.client.order(Operation.LEARN.target(quote(name)), call.arguments.reason, seconds=seconds)
    if answer["failed"]:
        call.terminal.show(answer, [clean(line) for line in answer["results"]])
        return EXIT_FAILED
    call.terminal.say(
        f"{name} runs without walls and is recorded for {seconds:.0f} s; Ctrl-C ends that earlier"
    )
    _wait(call, name, seconds)
    proposal = _propose(status, name)
    call.terminal.show(_as_json(proposal), _lines(name, proposal))
    return EXIT_OK


def _wait(call: Call, name: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            time.sleep(min(POLL_SECONDS, max(until - time.monotonic(), 0)))
    except KeyboardInterrupt:
        call.client.order(Operation.LEARN.target(quote(name)), "ended early", seconds=None)


def _propose(status: Status, name: str) -> Proposal:
    """Read the recording with the daemon's configuration. Raises ConfigError, OSError."""
    from pathlib import Path  # noqa: PLC0415 - this and what follows takes longer to import than most commands to run

    from msgspec import structs  # noqa: PLC0415

    from epad.configuration import load  # noqa: PLC0415
    from epad.configuration.directories import Directories  # noqa: PLC0415
    from epad.configuration.embedded_default import with_embedded_default  # noqa: PLC0415
    from epad.confinement.learning import propose  # noqa: PLC0415
    from epad.confinement.policies import Policies  # noqa: PLC0415
    from epad.confinement.recording import read_recording  # noqa: PLC0415
    from epad.operations.learning import RECORDING  # noqa: PLC0415

    chosen = Path(status["config_file"]) if status["config_file"] else None
    state = Path(status["state_directory"])
    directories = Directories(state, state / "run", chosen)
    config = with_embedded_default(load.read(load.find(chosen)).config, directories)
    home = pwd.getpwuid(state.stat().st_uid).pw_dir
    policies = Policies(directories, {**os.environ, "HOME": home})
    spec = config.subsystems[name]
    directory = policies.path(spec.working_directory or str(directories.work(name)), spec)
    with (directories.work(name) / RECORDING).open(errors="replace") as lines:
        recording = read_recording(lines, directory)

    def policy_of(confine: ConfineConfig) -> Policy:
        subsystems = {**config.subsystems, name: structs.replace(spec, confine=confine)}
        return policies.of(name, structs.replace(config, subsystems=subsystems))

    return propose(recording, policy_of, policies.path("~", spec), _ports(config))


def _ports(config: Config) -> set[int]:
    """Return the ports of the gateway's listeners, which a cell has a door for."""
    listeners = [config.gateway.listen, *(spec.listen for spec in config.subsystems.values())]
    return {int(port) for _, _, port in (listen.rpartition(":") for listen in listeners) if port.isdecimal()}


def _as_json(proposal: Proposal) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415

    return {"confine": msgspec.to_builtins(proposal.confine), "left_out": list(proposal.left_out)}


def _lines(name: str, proposal: Proposal) -> list[str]:
    """Return a proposal as the table to put into a configuration, and the requests that it leaves out."""
    import json  # noqa: PLC0415

    confine = proposal.confine
    keys = ("profile", "workspace", "read", "hosts", "gpu")
    given = [(key, getattr(confine, key)) for key in keys if getattr(confine, key)]
    lines = [f"[subsystems.{name}.confine]", *(f"{key} = {json.dumps(value)}" for key, value in given)]
    if proposal.left_out:
        lines += ["", "# It did this too, which is not proposed:"]
        lines += [f"# {line}" for line in proposal.left_out]
    return [clean(line) for line in lines]
