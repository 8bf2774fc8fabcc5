"""The tool door of an installed daemon, as one agent uses it, and the records that its calls leave."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from installed import QUICK, Installation, installation

from epad.ledger.export import records_from
from epad.ledger.record import Rooted, Session, ToolClosed, ToolOpened
from epad.ledger.rows import open_reader


class Connection(http.client.HTTPConnection):
    """HTTP over the agent's own Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


class Agent:
    """The tool door, as one agent uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        key: str = "",
        more: Mapping[str, str] | None = None,
    ) -> bytes:
        connection = Connection(self._path)
        with contextlib.closing(connection):
            headers = {
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                **(more or {}),
            }
            if key:
                headers["Idempotency-Key"] = key
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            return connection.getresponse().read()

    def call(self, tool: str, *, key: str = "", **arguments: object) -> dict[str, Any]:
        """Call a tool; `key` is the call's idempotency key."""
        body = {"name": tool, "arguments": arguments}
        answer: dict[str, Any] = json.loads(self.ask("POST", "/tools/call", body, key))
        return answer

    def mcp(self, tool: str, **arguments: object) -> dict[str, Any]:
        params = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        answer: dict[str, Any] = json.loads(self.ask("POST", "/mcp", message))
        return answer


@contextlib.contextmanager
def scene(workspace: Path, rest: str = "") -> Iterator[tuple[Installation, Agent]]:
    """A daemon with tools, and an agent that works in this directory."""
    door = workspace.parent / "door"
    table = (
        '[containment]\noperator = "block"\n[tools]\nenabled = true\n[subsystems.agent]\n'
        f'command = ["sleep", "600"]\nworking_directory = "{workspace}"\nlisten = "unix:{door}"\n{rest}'
    )
    with installation(QUICK + table) as house:
        house.start()
        yield house, Agent(door)
        assert house.stop() == 0


def records(house: Installation) -> list[Any]:
    with contextlib.closing(open_reader(house.state / "ledger.db")) as connection:
        shown = [each.record for each in records_from(connection, 1)]
    return [record for record in shown if isinstance(record, ToolOpened | ToolClosed | Session | Rooted)]
