"""Check which cells this machine gives: which walls stand, and whether a program gets out of one."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from epad.confinement.answer import CellError
from epad.confinement.machine import examine, trial
from epad.confinement.plan import Abilities, in_words
from epad.confinement.rungs import Machine, next_rung, rung_of
from epad.confinement.zygote import Zygote
from epad.doctor.finding import Check, Verdict
from runners.cell.plan import CellPlan, Syscalls, Wall

_ATTEMPTS: Final = Path(__file__).parents[2] / "runners/cell/attempts.py"
_SECONDS: Final = 20.0


def check_cells() -> Iterator[Check]:
    """Check that a subsystem can be confined here, by trying each wall and then a few ways out."""
    try:
        abilities, ways_out = asyncio.run(_look())
    except CellError as error:
        fix = "give epad a Python and a /bin/true that can be started here"
        yield Check("cells", Verdict.LACKING, f"no cell can be made: {error}", fix)
        return
    yield judge(abilities, ways_out, Machine.read(os.geteuid()))


def judge(abilities: Abilities, ways_out: list[str], machine: Machine) -> Check:
    """Word what was found: the rung, what is missing, what got out, and the line that gives the next rung."""
    rung, lacking = rung_of(abilities), abilities.lacking()
    got_out = f"; a program in it could {', '.join(ways_out)}" if ways_out else "; no way out was found"
    if lacking:
        found = f"{rung}; missing: {in_words(lacking)}{got_out}"
        return Check("cells", Verdict.LACKING, found, next_rung(abilities, machine))
    if ways_out:
        fix = "report it, with the output of `epactl doctor -o json`: no wall is missing here"
        return Check("cells", Verdict.BROKEN, f"{rung}{got_out}", fix)
    return Check("cells", Verdict.OK, f"{rung}{got_out}")


async def _look() -> tuple[Abilities, list[str]]:
    zygote = Zygote()
    try:
        await zygote.start()
        abilities = await examine(zygote)
        return abilities, await _try_to_get_out(zygote, abilities)
    finally:
        await zygote.close()


async def _try_to_get_out(zygote: Zygote, abilities: Abilities) -> list[str]:
    """Run the attempts in a cell with all the walls that this machine gives, and return those that succeeded."""
    with things_outside() as prepared:
        command = (sys.executable, "-I", "-S", str(_ATTEMPTS), json.dumps(prepared))
        read = (sys.base_prefix, sys.prefix, str(_ATTEMPTS.parent))
        ordered = trial(None, user_namespace=abilities.user_namespace, command=command, read=read)
        has_network = abilities.have(Wall.NETWORK)
        walls = (wall for wall in ordered.walls if not (wall is Wall.LANDLOCK_TCP and has_network))
        sockets = Syscalls(unix_sockets=has_network, datagrams=has_network)
        output = await _output_of(zygote, replace(ordered, walls=tuple(walls), syscalls=sockets))
    found: list[str] = json.loads(output)
    return found


async def _output_of(zygote: Zygote, ordered: CellPlan) -> str:
    reading, writing = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    with os.fdopen(reading) as output:
        try:
            cell = await zygote.spawn(ordered, null, writing, null)
        finally:
            os.close(writing)
            os.close(null)
        for door in cell.doors:
            door.close()
        return await asyncio.wait_for(asyncio.to_thread(output.read), _SECONDS)


@contextmanager
def things_outside() -> Iterator[dict[str, str]]:
    """Keep a file, a process (this one) and sockets outside, for the attempts to reach for."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="epad-doctor-")))
        (place / "secret").write_text("a secret of the doctor's")
        abstract = f"epad-doctor-{secrets.token_hex(8)}"
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for address in (str(place / "socket"), f"\0{abstract}"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()
        yield {
            "file": str(place / "secret"),
            "pid": str(os.getpid()),
            "port": str(port.getsockname()[1]),
            "socket": str(place / "socket"),
            "abstract": abstract,
        }
