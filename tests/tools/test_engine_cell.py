"""The cell of the worker that speaks to the container engine: one socket, and nothing that can be written."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cell_world
import pytest
from cell_world import EVERY_MODE, Mode
from fake_engine import fake_engine

from epad.tools.engine_cell import showing_engine
from runners.tools import engine

TRIES = """
import os, socket, sys
def connect(path):
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(path)
        ours.sendall(b'GET /_ping HTTP/1.0\\r\\n\\r\\n')
        return ours.recv(8).decode()
def tried(what, *words):
    try: return what(*words)
    except OSError as error: return type(error).__name__
print(tried(connect, os.environ['EPAD_ENGINE_SOCKET']), tried(connect, sys.argv[1]), tried(os.listdir, sys.argv[2]),
      tried(open, os.path.join(sys.argv[3], 'new'), 'w'))
"""


@pytest.mark.parametrize("mode", EVERY_MODE)
async def test_the_socket_is_reached_and_its_neighbours_are_not(mode: Mode) -> None:
    """Control: the other socket, beside it, has the same mode."""
    cell_world.need(mode)
    with (
        cell_world.workspace(cell_world.UID) as place,
        cell_world.workspace() as outside,
        fake_engine(outside / "engine") as made,
        fake_engine(outside / "other") as other,
    ):
        for each in (made, other):
            Path(each.socket).chmod(0o666)
        command = ("/usr/bin/python3", "-c", TRIES, other.socket, str(outside), str(place))
        ordered = cell_world.plan(place, command, mode)
        tree = replace(ordered.tree, write=(), read=(*ordered.tree.read, str(place)))
        shown = showing_engine(replace(ordered, tree=tree, directory="/"), made.socket, "agent")
        async with cell_world.zygote() as kept:
            ended = await cell_world.run(kept, shown)
    assert ended.output.split() == ["HTTP/1.1", "FileNotFoundError", "['engine']", "OSError"]


def test_without_a_setting_there_is_no_socket(tmp_path: Path) -> None:
    """The worker starts all the same, and its tools say which setting is missing."""
    plan = showing_engine(cell_world.plan(tmp_path, ("true",)), "", "agent")
    assert engine.SOCKET_VARIABLE not in plan.environment
    linked = tmp_path / "link"
    linked.symlink_to(tmp_path / "real")
    shown = showing_engine(plan, str(linked), "agent")
    assert shown.environment[engine.SOCKET_VARIABLE] == os.path.realpath(tmp_path / "real")
    assert shown.environment[engine.SUBSYSTEM_VARIABLE] == "agent"
