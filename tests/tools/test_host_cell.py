"""The cell of the tools that read the host: what it shows, tried from inside beside what it must not give."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cell_world
import pytest
from cell_world import EVERY_MODE, Mode

from epad.tools.host_cell import READ, showing_host
from runners.tools import environment_shown

SECRET = "hunter2 of a neighbour"

TRIES = """
import json, os, signal, socket, sys
pid, port, work = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def environment(): return open(f'/proc/{pid}/environ').read()
def memory(): return open(f'/proc/{pid}/maps').read()
def kill(): os.kill(pid, signal.SIGKILL)
def kernel(): open('/proc/sys/kernel/core_pattern', 'w').write('x')
def own(): open('/proc/self/comm', 'w').write('x')
def write(): open(f'{work}/new', 'w')
def connect(): socket.create_connection(('127.0.0.1', port), 5)
def keys(): return open('/proc/kcore', 'rb').read(1) or None
def name(): return open(f'/proc/{pid}/comm').read().strip()
def ports(): return f':{port:04X}' in open('/proc/1/net/tcp').read()
def read(): return open(f'{work}/file').read()
def cards(): return os.listdir('/sys/class/net') != ['lo']
found = {}
for each in (environment, memory, kill, kernel, own, write, connect, keys, name, ports, read, cards):
    try: found[each.__name__] = each() or 'done'
    except (OSError, ProcessLookupError) as error: found[each.__name__] = None
print(json.dumps(found))
"""


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """A process of whoever runs the tests, with a secret in its environment."""
    environment = {**os.environ, "SECRET": SECRET}
    with subprocess.Popen(["sleep", "600"], env=environment) as running:
        yield running
        running.kill()


async def tried(mode: Mode, pid: int, place: Path, port: int) -> dict[str, Any]:
    async with cell_world.zygote() as kept:
        command = ("/usr/bin/python3", "-c", TRIES, str(pid), str(port), str(place))
        ordered = cell_world.plan(place, command, mode)
        tree = replace(ordered.tree, write=(), read=(*ordered.tree.read, str(place), *READ, "/sys/devices"))
        shown = showing_host(replace(ordered, tree=tree, directory="/"), os.environ)
        ended = await cell_world.run(kept, shown)
    assert ended.missing == {}, ended.output
    found: dict[str, Any] = json.loads(ended.output)
    return found


@pytest.mark.parametrize("mode", EVERY_MODE)
async def test_the_host_is_seen_and_not_reached(mode: Mode, neighbour: subprocess.Popen[bytes]) -> None:
    """Names, ports and cards are; environments, memory, signals, settings, files and connections are not."""
    cell_world.need(mode)
    with cell_world.workspace(cell_world.UID) as place, socket.create_server(("127.0.0.1", 0)) as listening:
        (place / "file").write_text("text")
        found = await tried(mode, neighbour.pid, place, listening.getsockname()[1])
    assert neighbour.poll() is None
    refused = {name for name, value in found.items() if value is None}
    assert refused == {"environment", "memory", "kill", "kernel", "own", "write", "connect", "keys"}, found
    assert (found["name"], found["ports"], found["read"], found["cards"]) == ("sleep", True, "text", True)


def test_control_outside_of_the_cell(tmp_path: Path, neighbour: subprocess.Popen[bytes]) -> None:
    """The same program gets the environment, writes, connects and kills: nothing is held by itself."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        (tmp_path / "file").write_text("text")
        arguments = [str(neighbour.pid), str(listening.getsockname()[1]), str(tmp_path)]
        code = TRIES.replace("kill, kernel, own", "own").replace("found = {}", "found = {}; kernel = own")
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert SECRET in found["environment"]
    assert None not in (found["memory"], found["write"], found["connect"], found["own"])


def test_the_daemons_secrets_stay_in_the_daemon(tmp_path: Path) -> None:
    """The worker is told names, and the values of a list."""
    plan = showing_host(cell_world.plan(tmp_path, ("true",)), {"API_KEY": "hunter2", "LANG": "C"})
    assert json.loads(plan.environment[environment_shown.VARIABLE]) == {"API_KEY": None, "LANG": "C"}
    assert "hunter2" not in plan.to_json().decode()
