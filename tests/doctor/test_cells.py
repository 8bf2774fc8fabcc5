"""The doctor on cells: what stands here, what does not, and what got out."""

from __future__ import annotations

import json
import subprocess
import sys

import cell_world

from epad.confinement.plan import Abilities
from epad.confinement.rungs import Machine
from epad.doctor import cells
from epad.doctor.finding import Verdict
from runners.cell import attempts
from runners.cell.plan import Wall


def test_this_machine_is_tried() -> None:
    """With every wall, nothing gets out."""
    cell_world.need("user namespace")
    (check,) = cells.check_cells()
    assert (check.verdict, check.fix) == (Verdict.OK, "")
    assert check.found.endswith("no way out was found")


def test_outside_every_attempt_succeeds() -> None:
    """Control: the same program, as the same user, without a cell."""
    with cells.things_outside() as prepared:
        command = [sys.executable, "-I", "-S", attempts.__file__, json.dumps(prepared)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    got = set(json.loads(done.stdout))
    names = {attempt.__name__.replace("_", " ") for attempt in attempts.ATTEMPTS}
    assert names - got <= {"make namespaces of its own"}


def test_missing_walls_come_with_the_next_rung() -> None:
    """Those of one reason together."""
    walls = (Wall.NETWORK, Wall.FILES, Wall.PROCESSES, Wall.PROC, Wall.IPC)
    found = Abilities(dict.fromkeys(walls, "EPERM"))
    check = cells.judge(found, ["connect to a port"], Machine(apparmor_restricts=True))
    assert check.verdict is Verdict.LACKING
    assert (
        "missing: network, files, processes, proc, ipc (EPERM); a program in it could connect to a port"
        in check.found
    )
    assert "apparmor_parser" in check.fix


def test_a_way_out_through_every_wall_is_a_fault() -> None:
    check = cells.judge(Abilities(), ["signal a process"], Machine())
    assert check.verdict is Verdict.BROKEN
    assert "could signal a process" in check.found
