"""A worker of tools that does as each tool's name says; its frames are those of `runners/tools/worker.py`.

`tests/tools/test_workers.py` holds it against the real one.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping

from epad.tools.catalogue import Catalogue, parse
from epad.tools.worker import Worker, connect
from epad.tools.worker_cell import Started

# `hang` is answered once it is cancelled; `silent` never; `die` ends the worker.
SCRIPT = """
import json, os, socket, struct, sys
peer = socket.socket(fileno=0).makefile("rwb", buffering=0)
def read(count):
    data = b""
    while len(data) < count:
        more = peer.read(count - len(data))
        if not more:
            os._exit(0)
        data += more
    return data
def say(number, **answer):
    body = json.dumps({"id": number, "cpu_ms": 1.4, "wall_ms": 2.6, "effects": [], **answer}).encode()
    peer.write(struct.pack(">I", len(body)) + body)
while True:
    request = json.loads(read(*struct.unpack(">I", read(4))))
    if "cancel" in request:
        effects = [["half.txt", None, "11" * 32]]
        say(request["cancel"], error="it was cancelled", hint="", ended="cancelled", effects=effects)
        continue
    number, tool, arguments = request["id"], request["tool"], request["arguments"]
    if tool == "die":
        os._exit(3)
    elif tool == "large":
        say(number, result={"text": "x" * 300_000})
    elif tool == "late":
        say(number, error="late was ended after 1 s", hint="ask for less", ended="timeout")
    elif tool == "fail":
        say(number, error="no such file", hint="look first", ended="error")
    elif tool == "write":
        say(number, result={"ok": True}, effects=[["a.txt", None, "22" * 32]])
    elif tool not in {"hang", "silent"}:
        say(number, result={"tool": tool, **arguments})
"""
RISKS: Mapping[str, str] = {
    "die": "R1", "echo": "P", "fail": "R1", "hang": "W1", "host": "R2", "large": "R1", "late": "R1", "remove": "W2",
    "silent": "R1", "write": "W1",
}  # fmt: skip


def catalogue(**timeouts: float) -> Catalogue:
    """The definitions of the tools above, as a child would print them."""
    told = [
        {
            "name": name, "category": "odd" if name == "host" else "files", "description": f"Do {name}.",
            "risk": risk, "timeout": timeouts.get(name, 30), "inputSchema": {"type": "object"},
            "outputSchema": {"type": "object"}, "sha256": name.encode().hex().ljust(64, "0"),
        }
        for name, risk in RISKS.items()
    ]  # fmt: skip
    return parse(json.dumps(told).encode())


class ScriptedStarter:
    """Starts such workers, or any command whose standard input is the socket. `started` counts them.

    `now` has the settings of subsystems.
    """

    def __init__(self, *command: str) -> None:
        self.command = command or (sys.executable, "-I", "-S", "-c", SCRIPT)
        self.started: list[tuple[str, str]] = []
        self.workers: list[Worker] = []
        self.now: dict[str, str] = {}

    async def start(self, subsystem: str, category: str, ended: Callable[[], None]) -> Started:
        self.started.append((subsystem, category))
        ours, theirs = socket.socketpair()
        with theirs:
            child = subprocess.Popen(self.command, stdin=theirs.fileno(), stdout=theirs.fileno(), cwd="/")
        child.returncode = 0  # the worker reaps it
        self.workers.append(await connect(child.pid, ours, ended))
        return Started(self.workers[-1], ())

    def settings(self, subsystem: str) -> object:
        return self.now.get(subsystem)
