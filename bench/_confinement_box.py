"""Measure what systemd's properties hold, inside the box with the systemd: `_confinement_box.py ORDER` prints JSON."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

import cell_world
from _confinement_peers import ENVIRONMENT, PROTECTED, got_out
from agent_needs import NEEDS, Need
from neighbourhood import neighbourhood, unavailable

# All of systemd.exec(5) that an agent can live with. PrivateTmp hides /var/tmp too, where the workspaces are.
PROPERTIES: Final = (
    "PrivateNetwork=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateUsers=yes",
    "PrivateIPC=yes",
    "ProtectSystem=strict",
    "ProtectHome=tmpfs",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "RestrictNamespaces=yes",
    "RestrictSUIDSGID=yes",
    "RestrictRealtime=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "LockPersonality=yes",
    "KeyringMode=private",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    "LimitCORE=0",
)


def know_the_user() -> None:
    """Enter the cells' user in the box's own /etc/passwd: systemd runs nothing as a user whom it does not know."""
    with Path("/etc/passwd").open("a", encoding="utf-8") as file:
        file.write(f"cells:x:{cell_world.UID}:{cell_world.UID}::/nonexistent:/bin/sh\n")
    with Path("/etc/group").open("a", encoding="utf-8") as file:
        file.write(f"cells:x:{cell_world.UID}:\n")


def walled(workspace: str, readable: Sequence[str] = (), hidden: Sequence[str] = ()) -> list[str]:
    """Return systemd-run's command with these properties and the same places."""
    places = (
        f"BindPaths={workspace}",
        f"WorkingDirectory={workspace}",
        *(f"BindReadOnlyPaths={path}" for path in readable),
        *(f"InaccessiblePaths={path}" for path in hidden),
        *(f"ReadOnlyPaths=-{workspace}/{name}" for name in PROTECTED),
    )
    return _run_by_systemd(*PROPERTIES, *places)


def plain(workspace: str) -> list[str]:
    """Return systemd-run's command with no wall."""
    return _run_by_systemd(f"WorkingDirectory={workspace}")


def _run_by_systemd(*properties: str) -> list[str]:
    variables = {**ENVIRONMENT, "HOME": "/tmp"}  # noqa: S108 (there is no home that ProtectHome leaves)
    return [
        *("systemd-run", "--quiet", "--wait", "--pipe", "--collect"),
        *(f"--uid={cell_world.UID}", f"--gid={cell_world.UID}"),
        *(f"--setenv={name}={value}" for name, value in variables.items()),
        *(f"--property={text}" for text in properties),
        "--",
    ]


def escapes(names: Sequence[str]) -> list[str]:
    """Try the escapes, and return those that got out."""
    with neighbourhood() as here:
        present = [name for name in names if name not in unavailable(here.facts)]
        readable = here.facts["readable"]
        wrapper = walled(str(here.workspace), [readable], [f"{readable}/hidden"])
        return got_out(_output(wrapper, here.command(present)))


def is_met(need: Need) -> bool:
    with cell_world.workspace(cell_world.UID) as place:
        return need.is_met(_output(walled(str(place)), need.command))


def start_above_plain(count: int) -> float:
    """Return how many milliseconds a start with the walls takes above one without, both by systemd-run."""
    taken: dict[str, list[float]] = {"plain": [], "walled": []}
    with cell_world.workspace(cell_world.UID) as place:
        ways = {"plain": plain(str(place)), "walled": walled(str(place))}
        for _ in range(count):
            for way, wrapper in ways.items():
                began = time.perf_counter()
                _output(wrapper, ["/bin/true"])
                taken[way].append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken["walled"]) - statistics.median(taken["plain"])


def _output(wrapper: Sequence[str], command: Sequence[str]) -> str:
    # systemd would put variables of its own in the place of "$NAME"
    literal = [word.replace("$", "$$") for word in command]
    done = subprocess.run([*wrapper, *literal], capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    return done.stdout


def main() -> None:
    order = json.loads(sys.argv[1])
    know_the_user()
    wanted = [need for need in NEEDS if need.name in order["needs"]]
    told = {
        "out": escapes(order["names"]),
        "met": [need.name for need in wanted if is_met(need)],
        "start_ms": start_above_plain(order["starts"]),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
