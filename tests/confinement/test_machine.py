"""Trying out which walls this machine can put up: a real trial, and one where namespaces are forbidden."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace

import cell_world
import pytest
from cell_world import UID

from epad.confinement.answer import CellError
from epad.confinement.machine import examine
from runners.cell.plan import Syscalls, Wall

NAMESPACES = {
    *(Wall.NETWORK, Wall.FILES, Wall.PROCESSES, Wall.PROC),
    *(Wall.IPC, Wall.HOSTNAME, Wall.CGROUPS),
}
# A user namespace in which none can be made, without a right in it, as on a machine that forbids them.
FORBIDDEN = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "$0" "$@"',
    sys.executable,
)


@pytest.fixture(autouse=True)
def _needs_user_namespaces() -> None:
    cell_world.need("user namespace")


async def test_this_machine_has_every_wall() -> None:
    """Where the tests of cells run at all; and root needs no user namespace for another user's."""
    async with cell_world.zygote() as zygote:
        found = await examine(zygote)
        assert found.missing == {}
        assert found.user_namespace
        if os.geteuid() == 0:
            assert not (await examine(zygote, UID)).user_namespace


async def test_a_machine_without_namespaces_is_told() -> None:
    """Landlock and the filter of system calls stand there, and a cell that requires no more is made."""
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv here: apt-get install util-linux")
    async with cell_world.zygote(FORBIDDEN) as zygote:
        found = await examine(zygote)
        assert found.missing.keys() == NAMESPACES
        assert "no user namespace: " in found.missing[Wall.NETWORK]
        with cell_world.workspace() as place:
            script = f"""
                ls /var/lib; echo x >{place}/made; unshare -Ur true
                for shared in /tmp /dev/shm /var/tmp; do touch $shared/epad-test && echo $shared is open; done
                cat {place}/made
            """
            best = replace(
                cell_world.plan(place, ["sh", "-c", script]),
                required="best",
                uid=None,
                syscalls=Syscalls(unix_sockets=False, datagrams=False),
            )
            ended = await cell_world.run(zygote, best)
            assert ended.missing.keys() == NAMESPACES
            assert "'/var/lib': Permission denied" in ended.output
            assert "unshare failed: Operation not permitted" in ended.output
            assert ended.output.endswith("x\n")
            assert "is open" not in ended.output
            with pytest.raises(
                CellError, match="files: no user namespace: unshare: the limit of them is reached"
            ):
                await cell_world.run(zygote, replace(best, required="all"))
