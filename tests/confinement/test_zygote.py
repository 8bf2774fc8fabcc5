"""Cells made by a real zygote: their first process, their end, their doors, and what ends a start."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import cell_world
import pytest
from cell_world import GATEWAY, Mode

from epad.confinement.answer import CellError
from epad.confinement.zygote import Zygote
from runners.cell.plan import Tree, Wall

HELLO = f"""
import socket
link = socket.create_connection(("{GATEWAY.host}", {GATEWAY.port}), 10)
print(link.recv(20).decode())
"""


async def test_a_program_runs_within_every_wall(zygote: Zygote, place: Path, mode: Mode) -> None:
    """It is alone in there with its first process."""
    ended = await cell_world.run(zygote, cell_world.plan(place, ["ps", "-eo", "pid,comm"], mode))
    assert ended.missing == {}
    assert ended.output.split() == ["PID", "COMMAND", "1", "epad-cell", "2", "ps"]
    assert ended.status == 0


async def test_the_first_process_shows_whose_it_is(zygote: Zygote, place: Path, mode: Mode) -> None:
    """By its marks, as the supervisor looks for them, and by its arguments."""
    running = await cell_world.start(zygote, cell_world.plan(place, ["sleep", "60"], mode))
    proc = Path(f"/proc/{running.cell.pid}")
    marks = proc.joinpath("environ").read_bytes().rstrip(b"\0").split(b"\0")
    assert marks == [b"EPAD_SUBSYSTEM=agent", b"EPAD_STATE=/nowhere"]
    assert proc.joinpath("cmdline").read_bytes().rstrip(b"\0") == b"epad-cell: agent"
    assert os.getsid(running.cell.pid) == running.cell.pid
    os.kill(running.cell.pid, signal.SIGKILL)
    assert (await running.end()).status == -signal.SIGKILL


@pytest.mark.parametrize(
    ("script", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("exit 0", 0)]
)
async def test_the_cell_ends_as_its_program(
    zygote: Zygote, place: Path, mode: Mode, script: str, status: int
) -> None:
    """By its status, or 128 and the signal that ended it."""
    ended = await cell_world.run(zygote, cell_world.plan(place, ["sh", "-c", script], mode))
    assert ended.status == status


async def test_nothing_outlives_the_program(zygote: Zygote, place: Path, mode: Mode) -> None:
    """A daemon of its own goes with it: its end of the output closes, and so does our wait."""
    script = "setsid sleep 600 & setsid -f sleep 600; exit 3"
    ended = await cell_world.run(zygote, cell_world.plan(place, ["sh", "-c", script], mode))
    assert ended.status == 3


async def test_we_accept_at_the_doors(zygote: Zygote, place: Path, mode: Mode) -> None:
    """The listener is ours, its address is the cell's; nobody outside sees it."""
    running = await cell_world.start(zygote, cell_world.plan(place, ["python3", "-c", HELLO], mode))
    gateway, way_out = running.cell.doors
    assert gateway.getsockname() == (GATEWAY.host, GATEWAY.port)
    assert way_out.getsockname()[1] == 3128
    link, _ = await asyncio.get_running_loop().sock_accept(gateway)
    with link:
        link.sendall(b"hello")
    assert (await running.end()).output == "hello\n"


async def test_doors_are_made_anew_in_a_living_cell(zygote: Zygote, place: Path, mode: Mode) -> None:
    """As after the daemon's death: nobody accepts until then, and the same address answers afterwards."""
    script = f"while ! python3 -c '{HELLO}' 2>/dev/null; do sleep 0.05; done"
    running = await cell_world.start(zygote, cell_world.plan(place, ["sh", "-c", script], mode))
    for door in running.cell.doors:
        door.close()
    (again,) = (await zygote.reopen(running.cell.pid, [GATEWAY])).doors
    link, _ = await asyncio.get_running_loop().sock_accept(again)
    with link, again:
        link.sendall(b"again")
    assert (await running.end()).output == "again\n"


async def test_a_door_that_is_open_is_not_made_twice(zygote: Zygote, place: Path, mode: Mode) -> None:
    running = await cell_world.start(zygote, cell_world.plan(place, ["sleep", "60"], mode))
    with pytest.raises(CellError, match=r"listen on 127\.0\.0\.1 port 8711: Address already in use"):
        await zygote.reopen(running.cell.pid, [GATEWAY])
    os.kill(running.cell.pid, signal.SIGKILL)
    await running.end()


async def test_a_cell_that_is_gone_has_no_doors(zygote: Zygote) -> None:
    with pytest.raises(CellError, match="no cell with first process 999999999"):
        await zygote.reopen(999_999_999, [GATEWAY])


async def test_a_wall_that_cannot_be_had_ends_the_start(zygote: Zygote, place: Path, mode: Mode) -> None:
    """Named, and nothing has run; unless the best is enough, and then it is said."""
    link = place / "link"
    link.symlink_to("/usr")
    ordered = cell_world.plan(place, ["touch", f"{place}/ran"], mode)
    broken = replace(ordered, tree=replace(ordered.tree, write=(str(place), str(link))))
    with pytest.raises(CellError, match=r"files: .*symbolic link"):
        await cell_world.run(zygote, broken)
    assert not (place / "ran").exists()
    ended = await cell_world.run(zygote, replace(broken, required="best"))
    assert list(ended.missing) == ["files", "proc"]


async def test_a_missing_program_is_named(zygote: Zygote, place: Path, mode: Mode) -> None:
    with pytest.raises(CellError, match="No such file or directory"):
        await cell_world.run(zygote, cell_world.plan(place, ["/no/such/program"], mode))


async def test_protected_paths_stay_as_they_are(zygote: Zygote, place: Path, mode: Mode) -> None:
    """Those that exist, those that do not yet, and the directories above them; placeholders are told."""
    (place / ".git/hooks").mkdir(parents=True)
    (place / ".git/config").write_text("kept")
    tree = replace(
        cell_world.plan(place, []).tree,
        protect=tuple(
            f"{place}/{name}" for name in (".git/hooks/", ".git/config", ".envrc", ".vscode/", "no/x")
        ),
    )
    script = """
        echo x >.git/hooks/post-commit; echo x >.git/config; mv .git .moved; rm -rf .git
        echo x >.envrc; mkdir .vscode/a; mv .vscode v; rm -rf .vscode .envrc; ln -sf /etc/passwd .envrc
        echo ok >.git/description; true
    """
    ordered = replace(cell_world.plan(place, ["sh", "-c", script], mode), tree=tree)
    running = await cell_world.start(zygote, ordered)
    assert sorted(running.cell.placeholders) == [f"{place}/.envrc", f"{place}/.vscode"]
    assert (await running.end()).status == 0
    assert list((place / ".git/hooks").iterdir()) == []
    assert (place / ".git/config").read_text() == "kept"
    assert (place / ".envrc").read_text() == ""
    assert list((place / ".vscode").iterdir()) == []


async def test_hidden_paths_are_empty(zygote: Zygote, place: Path, mode: Mode) -> None:
    """A directory and a file, inside a root that is given."""
    (place / "keys").mkdir()
    (place / "keys/id").write_text("secret")
    (place / "token").write_text("secret")
    ordered = cell_world.plan(place, ["sh", "-c", "cat keys/id token; ls keys"], mode)
    hidden = replace(ordered.tree, hide=(f"{place}/keys", f"{place}/token"))
    assert "secret" not in (await cell_world.run(zygote, replace(ordered, tree=hidden))).output


async def test_the_hosts_tree_may_be_the_base(zygote: Zygote, place: Path, mode: Mode) -> None:
    """A model server's cell: its user's files, but nobody's sockets, and its own processes."""
    tree = Tree(base="host", empty=("/run", "/tmp"), write=(str(place),))
    script = "ls /run /tmp; test -e /etc/passwd && ps -e --no-headers | wc -l; echo x >made"
    ordered = replace(cell_world.plan(place, ["sh", "-c", script], mode), tree=tree)
    ended = await cell_world.run(zygote, ordered)
    assert ended.output.split()[-1] == "4", ended.output
    assert (place / "made").exists()


async def test_a_dead_zygote_is_replaced(zygote: Zygote, place: Path, mode: Mode) -> None:
    """The start that met its end fails, or gets the next one."""
    assert zygote.pid is not None
    os.kill(zygote.pid, signal.SIGKILL)
    os.waitid(os.P_PID, zygote.pid, os.WEXITED | os.WNOWAIT)
    assert (await cell_world.run(zygote, cell_world.plan(place, ["true"], mode))).status == 0


async def test_many_at_once(zygote: Zygote, place: Path, mode: Mode) -> None:
    """Each start has its own answer."""
    plans = [cell_world.plan(place, ["sh", "-c", f"exit {number}"], mode) for number in range(8)]
    ended = await asyncio.gather(*(cell_world.run(zygote, ordered) for ordered in plans))
    assert [one.status for one in ended] == list(range(8))


async def test_limits_hold(zygote: Zygote, place: Path, mode: Mode) -> None:
    ordered = cell_world.plan(place, ["sh", "-c", "ulimit -c; ulimit -n"], mode)
    ended = await cell_world.run(zygote, replace(ordered, limits=(("NOFILE", 99),)))
    assert ended.output.split()[1] == "99"


@pytest.mark.parametrize("wall", [Wall.IPC, Wall.HOSTNAME, Wall.CGROUPS])
async def test_each_namespace_is_another(zygote: Zygote, place: Path, mode: Mode, wall: Wall) -> None:
    """Than the host's, and with the wall taken away it is the host's."""
    name = {Wall.IPC: "ipc", Wall.HOSTNAME: "uts", Wall.CGROUPS: "cgroup"}[wall]
    ordered = cell_world.plan(place, ["readlink", f"/proc/self/ns/{name}"], mode)
    ours = str(Path(f"/proc/self/ns/{name}").readlink())
    assert (await cell_world.run(zygote, ordered)).output.strip() != ours
    assert (await cell_world.run(zygote, cell_world.without(ordered, wall))).output.strip() == ours
