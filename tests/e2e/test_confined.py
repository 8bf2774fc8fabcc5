"""Confined agents under the installed daemon: their way to a model, closed and opened, and after the daemon's death."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from installed import QUICK, Installation, installation
from machine_lacks import is_lacking

pytestmark = pytest.mark.skipif(is_lacking("user namespaces"), reason="no user namespace of one's own here")

# Asks again and again, and writes down when it saw what: the clock is the machine's, inside and outside.
AGENT = """
import json, os, time, urllib.request
seen = open("seen", "a", buffering=1)
def note(word):
    seen.write(f"{time.monotonic()} {word}\\n")
body = json.dumps({"model": "slow", "stream": True, "messages": [{"role": "user", "content": "hello"}]})
url = PATH if "://" in PATH else os.environ["EPAD_GATEWAY_URL"] + PATH
ask = urllib.request.Request(url, body.encode() if POST else None, {"Content-Type": "application/json"})
if "://" in PATH:
    ask.set_proxy(os.environ["HTTP_PROXY"].removeprefix("http://"), "http")
while True:
    try:
        with urllib.request.urlopen(ask, timeout=30) as answer:
            note("answered")
            for line in answer:
                if b"error" in line:
                    note("told")
        note("ended")
    except OSError as error:
        note("refused" if "refused" in str(error) else str(getattr(error, "code", repr(error))))
    time.sleep(0.02)
"""


def agent(name: str, *, path: str = "/v1/models", post: bool = False, rest: str = "") -> str:
    """The tables of a confined agent."""
    source = f"PATH, POST = {path!r}, {post}\n{AGENT}"
    command = json.dumps([sys.executable, "-S", "-c", source])
    return f"[subsystems.{name}]\ncommand = {command}\n{rest}[subsystems.{name}.confine]\n"


class Streaming(BaseHTTPRequestHandler):
    """A model that says a word twenty times a second for as long as somebody listens."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "slow"}
        word = json.dumps(
            {**chunk, "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
        )
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(f"data: {word}\n\n".encode())
                time.sleep(0.05)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the library)
        """Say nothing."""


@pytest.fixture
def stream() -> Iterator[int]:
    """The port of a server that streams without end."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Streaming) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def model(stream: int) -> str:
    """The tables of an upstream that streams without end."""
    return f'[upstreams.slow]\nurl = "http://127.0.0.1:{stream}"\ndialects = ["openai"]\n'


def seen(house: Installation, name: str) -> list[tuple[float, str]]:
    """What an agent has written down."""
    path = house.state / "subsystems" / name / "seen"
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = (line.partition(" ") for line in lines)
    return [(float(at), word) for at, _, word in pairs if word]


def words(house: Installation, name: str, since: float = 0.0) -> list[str]:
    return [word for at, word in seen(house, name) if at >= since]


def test_a_confined_agent_asks_by_its_own_door_until_it_is_quarantined(model: str) -> None:
    """It shows no key; a live stream ends and says why; then nothing lets it in, until it is released."""
    block = '[containment]\noperator = "block"\n'
    with installation(
        QUICK + block + model + agent("agent", path="/v1/chat/completions", post=True)
    ) as house:
        house.start()
        house.wait(lambda: "answered" in words(house, "agent"), "a stream")
        assert house.ctl("quarantine", "agent", "--reason", "a test").returncode == 0
        house.wait(lambda: house.subsystem("agent")["hold"]["rung"] == "block", "the hold")
        house.wait(lambda: words(house, "agent")[-2:] == ["refused", "refused"], "the door to be shut")
        assert words(house, "agent")[:3] == ["answered", "told", "ended"]
        assert set(words(house, "agent")[3:]) == {"refused"}
        assert house.subsystem("agent")["tokens"]["turns"] == 1
        assert house.subsystem("agent")["state"] == "quarantined"
        at = time.monotonic()
        assert house.ctl("release", "agent", "--reason", "a test").returncode == 0
        house.wait(lambda: "answered" in words(house, "agent", at), "another stream")
        assert house.stop() == 0
        assert house.children() == {}


def test_an_agent_whose_cell_the_next_daemon_has_no_record_of_reaches_nothing_until_it_is_started_again() -> (
    None
):
    """Nobody knows which doors it had; it is not taken for one without walls that may do as it likes."""
    with installation(QUICK + agent("agent")) as house:
        house.start()
        house.wait(lambda: "answered" in words(house, "agent"), "an answer")
        house.kill()
        shutil.rmtree(house.state / "cells")
        house.start()
        at = time.monotonic()
        house.wait(lambda: len(words(house, "agent", at)) > 5, "the agent to go on asking")
        assert "answered" not in words(house, "agent", at)
        assert "its record is gone" in house.subsystem("agent")["confine"]["trouble"]
        assert house.ctl("restart", "agent", "--reason", "a test").returncode == 0
        at = time.monotonic()
        house.wait(lambda: "answered" in words(house, "agent", at), "an answer")
        assert house.subsystem("agent")["confine"] == {"profile": "workspace", "missing": {}, "trouble": ""}
        assert house.stop() == 0


def test_a_confined_agent_goes_out_to_the_hosts_that_are_named_until_it_is_quarantined(stream: int) -> None:
    """By the address in its variables; what it has open is cut, and what is not named is refused and told."""
    url = f"http://127.0.0.1:{stream}/"
    named = agent("named", path=url) + f'hosts = ["127.0.0.1:{stream}"]\n'
    config = QUICK + '[containment]\noperator = "block"\n' + named + agent("stranger", path=url)
    with installation(config) as house:
        house.start()
        house.wait(lambda: "answered" in words(house, "named"), "a stream")
        house.wait(lambda: "403" in words(house, "stranger"), "a refusal")
        assert set(words(house, "stranger")) == {"403"}
        house.wait(lambda: house.events("egress.refused"), "the refusal to be told")
        assert house.events("egress.refused")[0]["subsystem"] == "stranger"
        house.ctl("quarantine", "named", "--reason", "a test")
        house.wait(lambda: words(house, "named")[-2:] == ["refused", "refused"], "the door to be shut")
        assert len([word for word in words(house, "named") if word == "answered"]) == 1
        at = time.monotonic()
        assert house.ctl("release", "named", "--reason", "a test").returncode == 0
        house.wait(lambda: "answered" in words(house, "named", at), "another stream")
        assert house.stop() == 0
        assert "subsystem.escaped" not in house.log.read_text()


def test_a_person_lets_a_confined_agent_reach_a_host_that_it_asks_for() -> None:
    """The question names the program; once it is approved, the host is looked up, and found to be none."""
    with installation(QUICK + agent("agent", path="http://nowhere.invalid/") + "ask = true\n") as house:
        house.start()
        house.wait(lambda: house.events("egress.asked"), "the question")
        [question] = json.loads(house.ctl("approvals", "--json").stdout)["questions"]
        assert (question["host"], question["port"], question["state"]) == ("nowhere.invalid", 80, "open")
        assert question["program"].startswith(sys.executable)
        assert words(house, "agent") == []
        assert house.ctl("approve", str(question["number"]), "--for", "1h").returncode == 0
        house.wait(lambda: words(house, "agent")[-2:] == ["502", "502"], "it to pass, and find nobody")
        assert house.events("egress.decided")[0]["fields"]["answer"] == "allowed"
        assert len(house.events("egress.asked")) == 1
        assert house.stop() == 0


# Asks for a host, and then tries to approve it itself: by its doors, by the page, by the control socket.
SELF_APPROVER = """
import http.client, json, os, socket, threading, time, urllib.parse
def passes(work):
    try:
        return bool(work())
    except OSError:
        return False
def post(address, path, body, kind="application/json"):
    door = http.client.HTTPConnection(address, timeout=5)
    door.request("POST", path, body, {"Content-Type": kind, "Origin": f"http://127.0.0.1:{PAGE}"})
    return door.getresponse().status < 400
def at(variable):
    return urllib.parse.urlsplit(os.environ[variable]).netloc
def by_socket():
    one = socket.socket(socket.AF_UNIX)
    one.connect(CONTROL)
    return True
def wait_for_a_person():
    http.client.HTTPConnection(at("HTTP_PROXY"), timeout=60).request("CONNECT", "files.invalid:443")
    time.sleep(600)
threading.Thread(target=wait_for_a_person, daemon=True).start()
time.sleep(1)
path, order = "/v1/approvals/1/approve", json.dumps({"reason": "because"})
form, kind = "answer=hour+1+agent+files.invalid:443&token=", "application/x-www-form-urlencoded"
page = f"127.0.0.1:{PAGE}"
tried = {
    "gateway": lambda: post(at("EPAD_GATEWAY_URL"), path, order),
    "way out": lambda: post(at("HTTP_PROXY"), path, order),
    "page": lambda: post(page, "/approvals", form, kind),
    "page by the way out": lambda: post(at("HTTP_PROXY"), f"http://{page}/approvals", form, kind),
    "token": lambda: open(TOKEN).read(),
    "control": by_socket,
}
print(json.dumps({name: passes(work) for name, work in tried.items()}), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("profile", ["workspace", "gateway-only"])
def test_an_agent_cannot_approve_what_it_asks_for(profile: str) -> None:
    """Not by a door, not by the page (which takes orders here), not by the socket; its question stays open."""
    with installation() as house:
        with socket.create_server(("127.0.0.1", 0)) as free:
            page = free.getsockname()[1]
        run = house.state / "run"
        places = f"PAGE, CONTROL, TOKEN = {page}, {str(run / 'control.sock')!r}, {str(run / 'web-token')!r}\n"
        command = json.dumps([sys.executable, "-S", "-c", places + SELF_APPROVER])
        table = f"[subsystems.agent]\ncommand = {command}\n[subsystems.agent.confine]\n"
        web = f'[web]\nlisten = "127.0.0.1:{page}"\norders = true\n'
        config = QUICK.replace('[web]\nlisten = "127.0.0.1:0"\n', web)
        house.config.write_text(f'{config}{table}profile = "{profile}"\nask = true\n')
        house.start()
        house.wait(lambda: house.ctl("logs", "agent").stdout.strip().endswith("}"), "its tries")
        tried = json.loads(house.ctl("logs", "agent").stdout.splitlines()[-1])
        assert {name for name, passed in tried.items() if passed} == set()
        assert len(tried) == 6
        assert (run / "web-token").exists()
        assert "allowed" not in {event["fields"]["answer"] for event in house.events("egress.decided")}
        answer = json.loads(house.ctl("approvals", "--json").stdout)
        assert answer["standing"] == []
        assert "files.invalid" in {one["host"] for one in answer["questions"]}
        assert house.ctl("approve", "1").returncode == 0
        assert house.ctl("approvals", "revoke", "files.invalid").returncode == 0
        assert house.events("egress.revoked")[0]["fields"]["host"] == "files.invalid"


def test_a_reload_changes_the_hosts_of_a_running_agent_at_once(stream: int) -> None:
    """Wider with a reason only; the process is the same."""
    url = f"http://127.0.0.1:{stream}/"
    narrow = QUICK + agent("agent", path=url)
    with installation(narrow) as house:
        house.start()
        house.wait(lambda: "403" in words(house, "agent"), "a refusal")
        pid = house.subsystem("agent")["pid"]
        house.config.write_text(narrow + f'hosts = ["127.0.0.1:{stream}"]\n')
        assert house.ctl("reload").returncode != 0
        assert "answered" not in words(house, "agent")
        assert house.ctl("reload", "--reason", "a test").returncode == 0
        house.wait(lambda: "answered" in words(house, "agent"), "a stream")
        assert house.subsystem("agent")["pid"] == pid
        assert house.stop() == 0


# Looks for a model beside epad: its server's own port, a host in the world, the machine's own services; and for keys.
RUNAWAY = """
import json, os, socket, time, urllib.request
def passes(work):
    try:
        return bool(work())
    except OSError:
        return False
def by_proxy(host):
    ask = urllib.request.Request(f"http://{host}/v1/chat/completions", b"{}")
    ask.set_proxy(os.environ["HTTP_PROXY"].removeprefix("http://"), "http")
    return urllib.request.urlopen(ask, timeout=5)
tried = {
    "model": lambda: socket.create_connection(("127.0.0.1", MODEL), 5),
    "model by the way out": lambda: by_proxy(f"127.0.0.1:{MODEL}"),
    "cloud": lambda: socket.create_connection(("192.0.2.1", 443), 5),
    "cloud by the way out": lambda: by_proxy("api.vendor.example"),
    "control": lambda: socket.socket(socket.AF_UNIX).connect(CONTROL) or True,
    "keys": lambda: os.listdir(STATE + "/keys"),
    "ledger": lambda: open(STATE + "/ledger.db", "rb").read(1),
    "neighbour": lambda: os.listdir(STATE + "/subsystems/neighbour"),
}
print(json.dumps({name: passes(work) for name, work in tried.items()}), flush=True)
time.sleep(600)
"""


def test_a_runaway_finds_no_way_round_the_gateway(model: str, stream: int) -> None:
    """Not its model's port, no host, none of epad's files; each host that it asked for is told, and no turn was had."""
    with installation() as house:
        places = f"MODEL, STATE, CONTROL = {stream}, {str(house.state)!r}, {str(house.state / 'run/control.sock')!r}\n"
        command = json.dumps([sys.executable, "-S", "-c", places + RUNAWAY])
        runaway = f"[subsystems.runaway]\ncommand = {command}\n[subsystems.runaway.confine]\n"
        neighbour = '[subsystems.neighbour]\ncommand = ["sleep", "600"]\n'
        house.config.write_text(QUICK + model + runaway + neighbour)
        house.start()
        house.wait(lambda: house.ctl("logs", "runaway").stdout.strip().endswith("}"), "its tries")
        tried = json.loads(house.ctl("logs", "runaway").stdout.splitlines()[-1])
        assert {name for name, passed in tried.items() if passed} == set()
        assert len(tried) == 8
        house.wait(lambda: len(house.events("egress.refused")) == 2, "the refusals to be told")
        told = {event["fields"]["host"] for event in house.events("egress.refused")}
        assert told == {"127.0.0.1", "api.vendor.example"}
        assert house.subsystem("runaway")["tokens"]["turns"] == 0


def test_a_confined_child_is_heard_printed_and_judged_as_any_other() -> None:
    """READY and a status line by its notify socket, its output in its log, the signal that ended it in the status."""
    source = (
        "import os, signal, socket; print('printed', flush=True)\n"
        "one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); one.connect(os.environ['NOTIFY_SOCKET'])\n"
        "one.send(b'READY=1'); one.send(b'STATUS=inside'); open('go', 'w').close()\n"
        "while os.path.exists('go'): __import__('time').sleep(0.02)\n"
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    command = json.dumps([sys.executable, "-S", "-c", source])
    table = f'notifies = true\nrestart = {{ policy = "never" }}\ncommand = {command}\n'
    with installation(f"{QUICK}[subsystems.child]\n{table}[subsystems.child.confine]\n") as house:
        house.start()
        house.wait(lambda: house.subsystem("child")["status"] == "inside", "its status")
        assert house.subsystem("child")["state"] == "running"
        house.wait(lambda: house.ctl("logs", "child").stdout.endswith("printed\n"), "its output")
        (house.state / "subsystems/child/go").unlink()
        house.wait_exits(1)
        assert house.events("subsystem.exited")[0]["fields"]["status"] == "signal SIGSEGV"


def owner(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


MANY = tuple(f"agent{number}" for number in range(4))


def answers(house: Installation, since: float) -> bool:
    """Whether every agent was answered since then."""
    return all("ended" in words(house, name, since) for name in MANY)


@pytest.mark.parametrize("way", ["kill", "upgrade"])
def test_confined_children_outlive_the_daemon_and_pass_nothing_meanwhile(way: str) -> None:
    """They are adopted with doors made anew; in between every one of them is refused, and no request is answered."""
    with installation(QUICK + "".join(map(agent, MANY))) as house:
        house.start()
        house.wait(lambda: answers(house, 0.0), "every agent to be answered")
        before = {name: house.subsystem(name)["pid"] for name in MANY}
        gone = time.monotonic()
        if way == "kill":
            house.kill()
            down = time.monotonic()
            house.wait(
                lambda: all("refused" in words(house, name, down) for name in MANY), "refusals", killed=True
            )
            assert not any("answered" in words(house, name, down) for name in MANY)
            house.start()
        else:
            done = house.ctl("upgrade", "--reason", "a test")
            assert done.returncode == 0, done.stderr
            assert f"{len(MANY)} of {len(MANY)} processes run on" in done.stdout
        again = time.monotonic()
        house.wait(lambda: answers(house, again), "every agent to be answered again")
        assert {name: house.subsystem(name)["pid"] for name in MANY} == before
        if way == "kill":
            house.wait(lambda: house.subsystem(MANY[0])["state"] == "running", "it to be known")
        assert all("refused" in words(house, name, gone) for name in MANY)
        assert house.stop() == 0
        assert house.children() == {}


@pytest.mark.parametrize("user", ["", "12345"])
def test_the_next_daemon_hears_a_confined_child_as_the_one_before_did(user: str) -> None:
    """Its notify socket is another one, in the directory that the cell shows; another user's child writes to it too."""
    if user and os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    source = (
        "import os, socket, time; one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); number = 0\n"
        "while True:\n    number += 1; time.sleep(0.02)\n    try:\n"
        "        one.sendto(f'READY=1\\nSTATUS=round {number}'.encode(), os.environ['NOTIFY_SOCKET'])\n"
        "    except OSError: pass"
    )
    command = json.dumps([sys.executable, "-S", "-c", source])
    table = f'notifies = true\nuser = "{user}"\ncommand = {command}\n'
    with installation(f"{QUICK}[subsystems.child]\n{table}[subsystems.child.confine]\n") as house:
        house.start()
        house.wait(lambda: "round" in house.subsystem("child")["status"], "its status")
        pid = house.subsystem("child")["pid"]
        assert {owner(child) for child in house.children()} == {int(user) if user else os.geteuid()}
        house.kill()
        house.start()
        house.wait(lambda: "round" in house.subsystem("child")["status"], "its status")
        assert house.subsystem("child")["pid"] == pid


def test_a_hold_outlives_the_daemon_with_the_doors_shut() -> None:
    """The next daemon makes them anew and lets nobody in, until the hold is lifted."""
    block = '[containment]\noperator = "block"\n'
    with installation(QUICK + block + agent("agent")) as house:
        house.start()
        house.wait(lambda: "ended" in words(house, "agent"), "an answer")
        house.ctl("quarantine", "agent", "--reason", "a test")
        house.wait(lambda: words(house, "agent")[-1] == "refused", "the door to be shut")
        shut = time.monotonic()
        house.kill()
        house.start()
        house.wait(lambda: house.subsystem("agent")["state"] == "quarantined", "the hold")
        up = time.monotonic()
        house.wait(lambda: words(house, "agent", up), "another try")
        assert not {"answered", "ended"} & set(words(house, "agent", shut))
        assert house.ctl("release", "agent", "--reason", "a test").returncode == 0
        house.wait(lambda: "ended" in words(house, "agent", up), "an answer")


def test_a_wall_that_is_required_and_missing_is_said_and_nothing_starts(tmp_path: Path) -> None:
    """A workspace that is not there: the start ends, the status names the key."""
    table = agent("agent") + f'workspace = "{tmp_path}/nowhere"\n'
    with installation(QUICK + table) as house:
        house.start()
        house.wait(lambda: house.subsystem("agent")["state"] == "failed", "the failure")
        assert "subsystems.agent.confine" in house.subsystem("agent")["status"]
