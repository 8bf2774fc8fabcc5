"""A day of use of the secrets vault on an installed daemon, made short: what is used, rotated, kept and shown in it.

A model server wants a key that the vault has; a confined agent uses a token by reference, over TLS. Both are rotated
while they are in use. Then everything that epad keeps, shows or prints is there to be looked at.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from certificates import certificate
from installed import EPACTL, QUICK, Installation, installation
from patience import PATIENCE_SECONDS
from secret_scan import Leak, Scan

HOST = "secret.example"
ADDRESS = f"127.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250}.1"
"""Of this process alone: tests run side by side."""
IN_FLIGHT = 100
AGENT = """
import json, os, sys, time, urllib.request
count = 0
while True:
    request = urllib.request.Request("https://HOST/agent", headers={"Authorization": "Bearer {{secret:token}}"})
    try:
        said = urllib.request.urlopen(request).read().decode()
    except OSError as error:
        said = repr(error)
    count += said == "ok"
    open("count.new", "w").write(f"{count} {said}")
    os.rename("count.new", "count")
    time.sleep(0.05)
"""


def new_value(prefix: str) -> bytes:
    """Return a value that is nowhere yet, with letters that encodings change."""
    return f"{prefix}_{secrets.token_urlsafe(18)}/+=:".encode()


class Server(ThreadingHTTPServer):
    """A model server, or the agent's host: keeps the credentials of each request; `hold` keeps answers back."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.shown: list[str] = []
        self.free = threading.Event()
        self.free.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that end."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        if self.path == "/agent":
            self.server.shown.append(self.headers.get("Authorization") or "")
            return self._answer(b"ok")
        return self._answer(
            json.dumps({"object": "list", "data": [{"id": "tiny", "object": "model"}]}).encode()
        )

    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.shown.append(self.headers.get("Authorization") or "")
        self.server.free.wait(PATIENCE_SECONDS)
        choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        self._answer(
            json.dumps(
                {"id": "1", "object": "chat.completion", "model": "tiny", "choices": [choice], "usage": usage}
            ).encode()
        )

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError, ssl.SSLError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the library)
        """Say nothing."""


class Day:
    """An installation with a vault, its two servers, and every value that was ever in it."""

    def __init__(self, house: Installation, models: Server, host: Server) -> None:
        self.house = house
        self.models = models
        self.host = host
        self.values: list[bytes] = []
        self.said: list[str] = []
        """All that epactl has printed."""

    def epactl(self, *words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run `epactl` with something on its standard input."""
        done = subprocess.run(
            [EPACTL, "--socket", self.house.state / "run/control.sock", *words],
            input=given, capture_output=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        self.said.append((done.stdout + done.stderr).decode())
        return done

    def keep(self, name: str, who: str, host: str, *words: str) -> bytes:
        """Keep a new value in the vault, and return it."""
        value = self.new_value(name)
        done = self.epactl("secret", "set", name, "--for", who, "--host", host, *words, given=value + b"\n")
        assert done.returncode == 0, done.stderr
        return value

    def rotate(self, name: str) -> bytes:
        """Give a secret a new value, and return it."""
        value = self.new_value(name)
        done = self.epactl("secret", "rotate", name, given=value)
        assert done.returncode == 0, done.stderr
        return value

    def turns(self, count: int) -> list[int]:
        """Ask the model so often at once; return the statuses, 0 for none."""
        key = (self.house.state / "keys/client.key").read_text().strip()
        url = self.house.status()["gateway"]["url"]
        body = json.dumps({"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]})
        head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

        def ask(_: int) -> int:
            request = urllib.request.Request(f"{url}/v1/chat/completions", body.encode(), head)
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                    answer.read()
                    return int(answer.status)
            except OSError as error:
                return int(getattr(error, "code", 0))

        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(ask, range(count)))

    def rotate_in_flight(self, count: int = IN_FLIGHT) -> tuple[list[int], list[bytes]]:
        """Rotate the model's key while so many turns are under way and as many more come; return what came of them."""
        before = len(self.models.shown)
        self.models.free.clear()
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(self.turns, count)
            self.house.wait(lambda: len(self.models.shown) >= before + count, "the turns to be under way")
            self.rotate("upstream")
            second = threads.submit(self.turns, count)
            self.house.wait(
                lambda: len(self.models.shown) >= before + 2 * count, "the turns after the rotation"
            )
            self.models.free.set()
            statuses = first.result() + second.result()
        return statuses, [one.removeprefix("Bearer ").encode() for one in self.models.shown[before:]]

    def pids(self) -> dict[int, str]:
        """Return the daemon, its helpers and the agent's processes, each with its kind."""
        assert self.house.process is not None
        agent = int(self.house.subsystem("agent")["pid"])
        found = [self.house.process.pid, *_below(self.house.process.pid), agent, *_below(agent)]
        return {pid: self._kind(pid) for pid in found}

    def leaks(self, scan: Scan) -> list[Leak]:
        """Look for every value that was ever there: in all that epad keeps, shows and prints, and in processes.

        The daemon and its way out have values in their memory, and nobody else has; no core shows those two.
        """
        found = list(scan.tree(self.house.directory))
        for number, text in enumerate(self.said):
            found += scan.look(f"epactl {number}", text.encode())
        for place, data in self._shown():
            found += scan.look(place, data)
        for pid, kind in self.pids().items():
            found += scan.process(pid, memory=kind not in {"daemon", "way out"})
        return found

    def _shown(self) -> Iterator[tuple[str, bytes]]:
        status = self.house.status()
        for name in ("web", "metrics"):
            path = "/metrics" if name == "metrics" else "/"
            base = status[name]["url"].removesuffix("/metrics").rstrip("/")
            with urllib.request.urlopen(base + path, timeout=PATIENCE_SECONDS) as answer:
                yield f"the {name}", answer.read()
        yield "status", json.dumps(status).encode()
        events = self.house.client().lines("/v1/events", {"limit": "1000", "since": "0"})
        yield "events", b"".join(json.dumps(one).encode() for one in events)
        state = ("--state", str(self.house.state))
        for words in (("secret", "list"), ("ledger", "export", *state), ("explain",), ("usage", *state)):
            done = self.epactl(*words)
            yield " ".join(words), done.stdout + done.stderr

    def _kind(self, pid: int) -> str:
        assert self.house.process is not None
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if pid == self.house.process.pid:
            return "daemon"
        if b"runners.egress" in words:
            return "way out"
        return "agent" if any(b"{{secret:token}}" in word for word in words) else "other"

    def new_value(self, name: str) -> bytes:
        """Return a value that will be looked for."""
        value = new_value(name)
        self.values.append(value)
        return value


def _below(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and theirs."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from _below(int(child))


def config(models: Server, program: Sequence[str]) -> str:
    """Return the configuration of a day."""
    return f"""{QUICK.replace("[gateway]", f"[gateway]{chr(10)}max_in_flight = {4 * IN_FLIGHT}")}
[upstreams.model]
url = "http://127.0.0.1:{models.server_address[1]}"
dialects = ["openai"]
api_key_secret = "upstream"
[secrets.token]
sealed = true
hosts = ["{HOST}"]
[subsystems.client]
kind = "client"
budget = {{ max_in_flight = {4 * IN_FLIGHT} }}
[subsystems.agent]
command = {json.dumps(list(program))}
[subsystems.agent.confine]
hosts = ["{HOST}={ADDRESS}"]
intercept = ["{HOST}"]
secrets = ["token"]
"""


@contextmanager
def day(environment: dict[str, str] | None = None) -> Iterator[Day]:
    """A day that has begun: the daemon runs, nothing is in the vault. The host key is a file of this test alone."""
    place = Path(tempfile.mkdtemp(prefix="epad-roots-", dir="/var/tmp"))
    place.chmod(0o755)
    host = Server((ADDRESS, 443))
    host.socket = certificate(place / "pem", HOST).wrap_socket(host.socket, server_side=True)
    models = Server(("127.0.0.1", 0))
    more = {
        "SSL_CERT_FILE": str(place / "pem"),
        "SYSTEMD_CREDENTIAL_SECRET": str(place / "host.key"),
        **(environment or {}),
    }
    former = {name: os.environ.get(name) for name in more}
    os.environ |= more
    try:
        with installation() as house:
            program = [sys.executable, "-S", "-c", AGENT.replace("HOST", HOST)]
            house.config.write_text(config(models, program))
            house.start()
            yield Day(house, models, host)
    finally:
        for name, value in former.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        for server in (host, models):
            server.free.set()
            server.shutdown()
            server.server_close()
        shutil.rmtree(place)


@dataclass
class Counted:
    """Holds what a day has shown: the answers to turns around a rotation, and the keys that came with them."""

    statuses: list[int]
    keys: list[bytes]
    former: bytes


def live(one: Day) -> Counted:
    """Have a day: keep, use, rotate, bind, test, bundle; end it with an order that is refused."""
    house = one.house
    token = one.keep("token", "agent", HOST)
    key = one.keep("upstream", "gateway", "127.0.0.1")
    house.wait(lambda: f"Bearer {token.decode()}" in one.host.shown, "the agent to use its token")
    assert one.turns(3) == [200] * 3
    assert one.models.shown[-1] == f"Bearer {key.decode()}"
    counted = Counted(*one.rotate_in_flight(), key)
    newer = one.rotate("token")
    house.wait(lambda: one.host.shown[-1] == f"Bearer {newer.decode()}", "the agent to use its new token")
    for words in (
        ("secret", "test", "token"),
        ("secret", "bind", "upstream", "--host", "127.0.0.1", "--for", "gateway"),
        ("checkpoint", "create", "--reason", "the end of the day"),
        ("reload",),
        ("secret", "list"),
        ("key", "rotate", "client", "--reason", "r"),
    ):
        done = one.epactl(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    value = one.new_value("token")
    assert one.epactl("secret", "set", "token", "--for", "agent", given=value).returncode == 1
    return counted


def live_on(one: Day) -> None:
    """Have the daemon die, and the next one go on with what is in the vault."""
    one.house.kill()
    one.house.start()
    before = len(one.host.shown)
    one.house.wait(lambda: len(one.host.shown) > before + 2, "the agent to be answered under the next daemon")
    assert one.host.shown[-1] == one.host.shown[before - 1]
    assert one.turns(3) == [200] * 3
