"""Tools of the network under the installed daemon: zero egress, the operator's list, a reload, a hold."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from installed import Installation
from tool_agent import scene


class Page(http.server.BaseHTTPRequestHandler):
    """Serves one page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>Served</h1>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def site() -> Iterator[int]:
    """Serve the page on loopback; gives the port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def web(*hosts: str) -> str:
    return f"[tools.web]\nhosts = {list(hosts)}\n".replace("'", '"')


def opened(house: Installation) -> list[tuple[str, str, int]]:
    return [
        (event["subsystem"], event["fields"]["host"], event["fields"]["port"])
        for event in house.events("egress.opened")
    ]


def test_a_tool_reaches_the_hosts_on_the_operators_list_and_no_other(workspace: Path) -> None:
    """None by default; a reload changes the list at once, and says why it widens. Each connection is on record.

    The agent has no walls of its own here: its tools have theirs.
    """
    with site() as port, site() as other:
        url, beside = f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{other}/"
        with scene(workspace) as (house, agent):
            table = house.config.read_text()
            nothing = agent.call("http_fetch", url=url)
            house.config.write_text(table + web(f"127.0.0.1:{port}"))
            unexplained = house.ctl("reload")
            assert house.ctl("reload", "--reason", "a test").returncode == 0
            served = agent.call("http_fetch", url=url)
            refused = agent.call("http_fetch", url=beside)
            sent = agent.call("http_request", method="POST", url=url, body="x")
            house.wait(lambda: opened(house) == [("agent", "127.0.0.1", port)], "the connection on record")
            house.config.write_text(table + web(f"127.0.0.1:{other}"))
            assert house.ctl("reload", "--reason", "a test").returncode == 0
            gone, now = agent.call("http_fetch", url=url), agent.call("http_fetch", url=beside)
            assert house.ctl("quarantine", "agent", "--reason", "a test").returncode == 0
            house.wait(lambda: agent.call("http_fetch", url=beside)["reason_code"] == "held", "the hold")

    assert unexplained.returncode != 0
    assert f"tools.web: + connect 127.0.0.1:{port}" in unexplained.stdout + unexplained.stderr
    assert "no rule names the address" in nothing["content"]["error"], nothing
    assert "[tools.web] hosts" in nothing["content"]["hint"]
    assert "\n# Served\n" in served["content"]["text"], served
    assert "no rule names the address" in refused["content"]["error"]
    assert sent["reason_code"] == "tier_too_low"
    assert "no rule names the address" in gone["content"]["error"]
    assert "\n# Served\n" in now["content"]["text"], now


def test_a_workers_door_is_its_own(workspace: Path) -> None:
    """The hosts of the subsystem's table `confine` are not its tools', and its worker sees no workspace."""
    with site() as port:
        confine = f'[subsystems.agent.confine]\nhosts = ["127.0.0.1:{port}"]\nrequire = "best"\n'
        with scene(workspace, confine) as (_, agent):
            answer = agent.call("http_fetch", url=f"http://127.0.0.1:{port}/")
    assert "no rule names the address" in answer["content"]["error"], answer
