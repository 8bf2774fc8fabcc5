"""A running daemon tells of an incident: once when it begins, once when it is over, and no secret with it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from installed import QUICK, Installation, installation

PATH, TOKEN, KEY = "/hooks/T0PS3CRET-path", "tk_averylongtokenofthewebhook", "sk-live-0123456789abcdefghij"
FAILS_WHILE = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
print("api_key=" + os.environ["PROVIDER_KEY"], flush=True)
raise SystemExit(3)
"""
CONFIG = (
    QUICK
    + f"""
[hysteresis.cascade]
clear_after_seconds = 2.0
flap_hold_max_seconds = 2.0
[notify]
webhook_file = "{{webhook}}"
calm_seconds = 6.0
zone = "UTC"
quiet = "{{quiet}}"
[subsystems.one]
command = ["{sys.executable}", "-S", "{{script}}", "{{flags}}/one"]
environment = {{{{ PROVIDER_KEY = "{KEY}" }}}}
[subsystems.one.restart]
backoff_seconds = 0.1
backoff_max_seconds = 0.2
intensity = 1000
failures_in_a_row = 0
[subsystems.two]
command = ["{sys.executable}", "-S", "{{script}}", "{{flags}}/two"]
environment = {{{{ PROVIDER_KEY = "{KEY}" }}}}
[subsystems.two.restart]
backoff_seconds = 0.1
backoff_max_seconds = 0.2
intensity = 1000
failures_in_a_row = 0
"""
)


def _are_raised(house: Installation, count: int) -> bool:
    return len(house.events("anomaly.raised")) >= count


class Hook:
    """A webhook on this machine, and what came in."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.raw: list[str] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                asked = (self.path, self.headers["Authorization"]) == (PATH, f"Bearer {TOKEN}")
                if asked:
                    hook.raw.append(body)
                    hook.got.append(json.loads(body))
                self.send_response(200 if asked else 403)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{PATH}"

    def has_got(self, count: int) -> bool:
        return len(self.got) == count

    @property
    def told(self) -> list[str]:
        return [message["event"] for message in self.got]


@pytest.fixture
def hook() -> Iterator[Hook]:
    one = Hook()
    yield one
    one.server.shutdown()
    one.server.server_close()


def configure(house: Installation, hook: Hook, quiet: str = "") -> None:
    address, script = house.directory / "webhook", house.directory / "fails.py"
    address.write_text(f"{hook.url}\n{TOKEN}\n")
    script.write_text(FAILS_WHILE)
    house.config.write_text(CONFIG.format(webhook=address, quiet=quiet, script=script, flags=house.directory))


def fail(house: Installation, name: str, *, yes: bool = True) -> None:
    flag = Path(house.directory) / name
    flag.touch() if yes else flag.unlink()


def test_one_message_when_it_begins_and_one_when_it_is_over(hook: Hook) -> None:
    """Held, let go, and failing again within it; then another incident is another pair."""
    with installation() as house:
        configure(house, hook)
        house.start()
        for number in (1, 2):
            fail(house, "one")
            house.wait(partial(hook.has_got, 2 * number - 1), "the beginning to be told", 60)
            held = len(house.events("anomaly.raised"))
            house.wait(partial(_are_raised, house, held + 1), "it to come back", 60)
            fail(house, "one", yes=False)
            house.ctl("release", "one", "--reason", "mended")
            house.wait(partial(hook.has_got, 2 * number), "its end to be told", 60)
        assert hook.told == ["incident.started", "incident.ended"] * 2
        begun, over = hook.got[:2]
        assert begun["subsystems"] == ["one"]
        assert begun["severity"] == "trouble"
        assert "one is" in begun["sentence"]
        assert "exit 3" in begun["sentence"]
        assert over["incident"] == begun["incident"]
        assert over["sentence"].startswith("over after ")
        keys = [path.read_text().strip() for path in (house.state / "keys").glob("*.key")]
        said = "\n".join([*hook.raw, house.log.read_text(), json.dumps(house.status())])
        for secret in (PATH, TOKEN, *keys):
            assert secret not in said
        assert KEY not in "\n".join(hook.raw)
        assert house.stop() == 0


def test_in_quiet_hours_only_what_is_critical_is_told(hook: Hook) -> None:
    """One that fails waits for the morning; when a second fails the same way, the one message goes out."""
    now = datetime.now(UTC)
    quiet = f"{now - timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"
    with installation() as house:
        configure(house, hook, quiet)
        house.start()
        fail(house, "one")
        house.wait((house.state / "notified.json").exists, "the incident to be known")
        assert hook.got == []
        fail(house, "two")
        house.wait(lambda: len(hook.got) > 0, "what is critical to be told")
        assert hook.told == ["incident.started"]
        assert hook.got[0]["severity"] == "critical"
        for name in ("one", "two"):
            fail(house, name, yes=False)
        for name in ("one", "two"):
            house.ctl("release", name, "--reason", "mended")
        house.wait_phase("NORMAL")
        assert hook.told == ["incident.started"]
        assert house.stop() == 0
