"""Workers with a door, in real cells of this machine: the way out is all that they and their calls reach."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from machine_lacks import is_lacking
from way_out_world import way_out_world

from epad.configuration.directories import Directories, resolve
from epad.configuration.load import load
from epad.confinement.planning import MachinePlanner
from epad.confinement.policies import Policies
from epad.confinement.policy import Policy
from epad.confinement.tool_doors import tool_door
from epad.confinement.zygote import Zygote
from epad.tools.worker import Worker
from epad.tools.worker_cell import CellStarter
from epad.tools.worker_doors import WorkerDoors
from runners.egress.rules import parse

pytestmark = pytest.mark.skipif(is_lacking("user namespaces"), reason="no user namespace of one's own here")


class Page(http.server.BaseHTTPRequestHandler):
    """Serves one page."""

    def do_GET(self) -> None:
        body = b"<title>Served</title><button>Press</button>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def site() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def directories(place: Path) -> Directories:
    file = place / "epad.toml"
    state, work = place / "state", place / "work"
    work.mkdir()
    file.write_text(
        f'[daemon]\nstate_directory = "{state}"\n[tools]\nenabled = true\n'
        f'[subsystems.agent]\ncommand = ["true"]\nworking_directory = "{work}"\n'
    )
    return resolve(load(file).daemon, {})


@asynccontextmanager
async def worker_in_a_cell(place: Path, category: str, *hosts: str) -> AsyncIterator[Worker]:
    """Start a worker whose door lets these hosts pass."""
    async with way_out_world() as world:
        found = directories(place)
        config = load(place / "epad.toml")
        rules = tuple(map(parse, hosts))
        door = tool_door("agent", category)
        world.policies[door] = Policy(door, "workspace", "", "", (), hosts=rules)
        zygote = Zygote()
        planner = MachinePlanner(zygote, lambda _: "", tuple)
        doors = WorkerDoors(world.way_out, structlog.get_logger("test"))
        starter = CellStarter(lambda: config, Policies(found, {}), planner, zygote, doors)
        started = await starter.start("agent", category, lambda: None)
        try:
            yield started.worker
        finally:
            await started.worker.close()
            await zygote.close()


async def call(worker: Worker, tool: str, **arguments: object) -> dict[str, Any]:
    answer = await worker.ask(tool, arguments, 60, 64 << 10).answer
    return answer.result or {"error": answer.error}


async def test_a_browser_runs_in_a_cell_and_reaches_the_list_alone(tmp_path: Path) -> None:
    """It opens, reads and leaves a page of a listed port of this machine; the port beside it is refused."""
    with site() as port, site() as other:
        async with worker_in_a_cell(tmp_path, "browser", f"127.0.0.1:{port}") as worker:
            went = await call(worker, "browser_navigate", url=f"http://127.0.0.1:{port}/")
            assert (went.get("status"), went.get("title")) == (200, "Served"), went
            tree = await call(worker, "browser_snapshot", page=went["page"])
            refused = await call(
                worker, "browser_navigate", url=f"http://127.0.0.1:{other}/", page=went["page"]
            )
            closed = await call(worker, "browser_close", page=went["page"])
    assert 'button "Press" [ref=' in tree["tree"]
    assert "no rule names the address" in refused["error"]
    assert closed == {"closed": True}


async def test_an_interface_is_described_by_a_file_of_the_workspace(tmp_path: Path) -> None:
    """The category api has the workspace, to read, and the door."""
    with site() as port:
        async with worker_in_a_cell(tmp_path, "api", f"127.0.0.1:{port}") as worker:
            (tmp_path / "work/api.json").write_text('{"openapi": "3.1.0", "paths": {"/a": {"get": {}}}}')
            read, tested = await asyncio.gather(
                call(worker, "openapi_parse", path="api.json"),
                call(worker, "api_test", requests=[{"method": "GET", "url": f"http://127.0.0.1:{port}/"}]),
            )
    assert [each["path"] for each in read["operations"]] == ["/a"], read
    assert tested["passed"], tested
