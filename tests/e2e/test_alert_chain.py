"""The whole chain, for real: a token storm in epad, Prometheus, Alertmanager, a person's webhook; and back."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS

from epad.runtime.environment_marks import STATE_MARK, SUBSYSTEM_MARK

ROOT = Path(__file__).parents[2]
PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]

pytestmark = pytest.mark.skipif(
    bool(MISSING),
    reason=f"not installed: {', '.join(MISSING)}; apt-get install prometheus prometheus-alertmanager",
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Person:
    """Somebody's webhook: what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        person = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                person.told += [(a["labels"]["alertname"], a["status"]) for a in body["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - its own word
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Chain:
    """Prometheus and Alertmanager beside a daemon, in a hurry."""

    def __init__(self, one: Installation, directory: Path) -> None:
        self.one, self.directory, self.person = one, directory, Person()
        self.prometheus, self.alertmanager = free_port(), free_port()

    def write(self) -> None:
        """The shipped rules with every wait cut to a second; nothing else of them is changed."""
        rules = (ROOT / "monitoring/prometheus/epad.rules.yml").read_text()
        rules = re.sub(r"(for|keep_firing_for): \w+", r"\1: 1s", rules)
        (self.directory / "rules.yml").write_text(rules)
        status = self.one.status()
        target = urllib.parse.urlsplit(status["metrics"]["url"]).netloc
        (self.directory / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{self.alertmanager}"]}}]}}]}}
scrape_configs: [{{job_name: epad, static_configs: [{{targets: ["{target}"]}}]}}]
""")
        (self.directory / "alertmanager.yml").write_text(f"""
route:
  receiver: person
  group_by: [alertname]
  group_wait: 1s
  group_interval: 1s
  repeat_interval: 1m
  routes: [{{receiver: epad, matchers: ['alertname!~"Epad.*"']}}]
receivers:
  - {{name: person, webhook_configs: [{{url: "{self.person.url}", send_resolved: true}}]}}
  - name: epad
    webhook_configs:
      - url: "{status["web"]["url"]}alerts"
        send_resolved: true
        http_config: {{authorization: {{credentials_file: "{self.one.state}/alerts-token"}}}}
""")

    def commands(self) -> list[list[str]]:
        return [
            [
                "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", "--log.level=warn",
                "--rules.alert.resend-delay=1s",  # what fires before Alertmanager is found is sent again
                f"--web.listen-address=127.0.0.1:{self.prometheus}",
            ],
            [
                "prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=am", "--log.level=warn",
                f"--web.listen-address=127.0.0.1:{self.alertmanager}", "--cluster.listen-address=",
            ],
        ]  # fmt: skip

    def query(self, expr: str) -> list[dict[str, Any]]:
        where = f"http://127.0.0.1:{self.prometheus}/api/v1/query?"
        with urllib.request.urlopen(
            where + urllib.parse.urlencode({"query": expr}), timeout=PATIENCE_SECONDS
        ) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited for {what}; the person was told {self.person.told}"
            time.sleep(0.2)


@contextmanager
def chain() -> Iterator[Chain]:
    config = QUICK.replace("[web]\n", "[web]\nalerts = true\n") + "[tools]\nenabled = true\n"
    with installation(config) as one, ExitStack() as stack:
        one.start()
        made = Chain(one, one.directory)
        made.write()
        stack.callback(made.person.server.server_close)
        stack.callback(made.person.server.shutdown)
        for command in made.commands():
            log = stack.enter_context((one.directory / f"{command[0]}.log").open("wb"))
            process = stack.enter_context(
                subprocess.Popen(command, cwd=one.directory, stdout=log, stderr=log)
            )
            stack.callback(process.kill)
        for port in (made.prometheus, made.alertmanager):
            made.wait(partial(answers, port), f"port {port}")
        yield made
        one.stop()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=PATIENCE_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_token_storm_reaches_a_person_and_is_resolved() -> None:
    """And every panel has something to show, and what others alert of reaches epad."""
    with chain() as running:
        metrics = urllib.request.urlopen(
            running.one.status()["metrics"]["url"], timeout=PATIENCE_SECONDS
        ).read()
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=metrics, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")

        running.wait(lambda: ("EpadWatchdog", "firing") in running.person.told, "the dead-man")
        call_a_tool(running.one)
        running.wait(
            lambda: bool(running.query("rate(epad_tool_call_seconds_count[10s])")), "the tool's series"
        )
        running.one.loop_switch().touch()
        running.wait(lambda: ("EpadQuarantine", "firing") in running.person.told, "the quarantine's alert")
        check_panels(running)
        running.one.loop_switch().unlink()
        assert running.one.ctl("release", "chat", "--reason", "the test is over").returncode == 0
        running.wait(lambda: ("EpadQuarantine", "resolved") in running.person.told, "its resolution")

        add = ["amtool", f"--alertmanager.url=http://127.0.0.1:{running.alertmanager}", "alert", "add"]
        subprocess.run([*add, "alertname=DiskSlow", "severity=critical"], check=True)
        running.wait(
            lambda: "alerts" in {a["probe"] for a in running.one.status()["anomalies"]}, "its anomaly"
        )


def call_a_tool(house: Installation) -> None:
    """As the wargame, whose key stands in its own environment alone."""
    url = house.status()["gateway"]["url"] + "/tools/call"
    body = json.dumps({"name": "uuid_generate", "arguments": {}}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key_of(house, 'wargame')}"}
    with urllib.request.urlopen(
        urllib.request.Request(url, body, headers), timeout=PATIENCE_SECONDS
    ) as answer:
        assert not json.load(answer)["is_error"]


def key_of(house: Installation, subsystem: str) -> str:
    marks = {f"{STATE_MARK}={house.state}", f"{SUBSYSTEM_MARK}={subsystem}"}
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = place.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        keys = [word.partition("=")[2] for word in words if word.startswith("EPAD_GATEWAY_KEY=")]
        if keys and marks <= set(words):
            return keys[0]
    raise AssertionError(f"{subsystem} has no process with a key")


def check_panels(running: Chain) -> None:
    """Run every panel's query; a machine without a GPU has nothing for that row."""
    panels = json.loads((ROOT / "monitoring/grafana/epad.json").read_text())["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            expr = target["expr"].replace("$instance", ".*").replace("$__rate_interval", "10s")
            if "epad_gpu" not in expr:
                assert running.query(expr), f"{panel['title']}: {expr} has no answer"
