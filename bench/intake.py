"""What one client can do to all others before it is charged a token: heavy bodies, unfinished ones, silent connections.

`INTAKE_PLANT=shape|thread|bodies|crowd` takes one bound away from the daemon, and rows must turn red.
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from _harness import Row, run

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests/support"))
import installed  # noqa: E402 (it lies where the line above points)
from installed import EPACTL, Installation, installation  # noqa: E402

COMMAND = "python bench/intake.py"
BODY_BYTES = 32 << 20
PAUSE_GOAL_MS, GROWTH_GOAL_MIB, KEPT_GOAL_MIB = 100.0, 200.0, 32.0
STATUS_GOAL_SECONDS, LOG_GOAL_LINES = 1.0, 100
_REST_SECONDS = 0.002
CHAT, MESSAGES, COMPLETIONS = "/v1/chat/completions", "/v1/messages", "/v1/completions"
CONTROL = "control: one message of text, forwarded"
CONFIG = """
[gateway]
listen = "127.0.0.1:0"
refusals_before_rest = 1000000
[metrics]
listen = "127.0.0.1:0"
[web]
listen = "127.0.0.1:0"
[upstreams.stub]
url = "http://127.0.0.1:{port}"
dialects = ["openai", "anthropic"]
context_tokens = 1000
[hysteresis.token_burn]
raise_after = 0
[hysteresis.token_rate]
raise_after = 0
[hysteresis.conversation]
raise_after = 0
[subsystems.evil]
kind = "client"
[subsystems.good]
kind = "client"
"""
_HEAD = b'{"model":"m","max_tokens":5,"messages":['


def filled(unit: bytes, head: bytes, tail: bytes, size: int) -> bytes:
    """A body of about that size, of one unit over and over."""
    count = (size - len(head) - len(tail)) // len(unit)
    return head + unit * (count - 1) + unit.rstrip(b",") + tail


def shapes(size: int) -> dict[str, tuple[str, bytes]]:
    """Each kind of body: where it is sent, and its bytes."""
    keys = b",".join(b'"%x":0' % number for number in range(size // 12))
    return {
        CONTROL: (CHAT, filled(b"x", _HEAD + b'{"role":"user","content":"', b'"}]}', size)),
        "text of escapes": (CHAT, filled(b'\\"', _HEAD + b'{"role":"user","content":"', b'"}]}', size)),
        "messages of {},": (CHAT, filled(b"{},", _HEAD, b"]}", size)),
        "messages with an unknown key": (CHAT, filled(b'{"a":0},', _HEAD, b"]}", size)),
        "content parts": (CHAT, filled(b'{"a":0},', _HEAD + b'{"role":"user","content":[', b"]}]}", size)),
        "tools": (MESSAGES, filled(b'{"a":0},', _HEAD + b'],"tools":[', b"]}", size)),
        "a list of lists": (COMPLETIONS, filled(b"[],", b'{"model":"m","prompt":[', b"]}", size)),
        "lists within lists": (CHAT, _HEAD + b"[" * (size // 2 - 50) + b"]" * (size // 2 - 50) + b"]}"),
        "millions of keys": (CHAT, b'{"model":"m","messages":[],' + keys + b"}"),
        "token ids": (COMPLETIONS, filled(b"12345,", b'{"model":"m","prompt":[', b"]}", size)),
        "a million token ids": (COMPLETIONS, filled(b"1,", b'{"model":"m","prompt":[', b"]}", 1_900_000)),
        "one key of escapes": (CHAT, filled(b"\\n", b'{"model":"m","messages":[],"', b'":0}', size)),
    }


@dataclass
class House:
    """A daemon, where it listens, and its keys."""

    one: Installation
    ports: dict[str, int] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """The daemon's; the wrapper has become it."""
        assert self.one.process is not None
        return self.one.process.pid

    def look(self) -> None:
        """Learn where it listens, and the keys."""
        status = self.one.status()
        for name in ("gateway", "web", "metrics"):
            self.ports[name] = int(status[name]["url"].split("/")[2].rpartition(":")[2])
        for name in ("evil", "good"):
            path = self.one.state / f"keys/{name}.key"
            self.one.wait(path.exists, "the keys")
            self.keys[name] = path.read_text().strip()

    def memory_mib(self, line: str = "VmRSS") -> float:
        """What the daemon has, or had at most (VmHWM) since `forget_peak`."""
        for each in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if each.startswith(line):
                return int(each.split()[1]) / 1024
        raise RuntimeError(line)

    def forget_peak(self) -> None:
        """Have the kernel count the peak from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextmanager
def house() -> Iterator[House]:
    """A daemon in front of a stub, started with the usual soft limit of 1,024 files."""
    stub = subprocess.Popen([sys.executable, HERE / "_intake_stub.py"], stdout=subprocess.PIPE, text=True)
    assert stub.stdout is not None
    plant = os.environ.get("INTAKE_PLANT", "")
    program = f"{HERE / '_intake_plant.py'} {plant}" if plant else f"{installed.EPAD}"
    try:
        with installation(CONFIG.format(port=int(stub.stdout.readline()))) as one:
            wrapper = one.directory / "epad"
            wrapper.write_text(f'#!/bin/sh\nulimit -S -n 1024\nexec {sys.executable} {program} "$@"\n')
            wrapper.chmod(0o755)
            kept, installed.EPAD = installed.EPAD, wrapper
            try:
                one.start()
            finally:
                installed.EPAD = kept
            found = House(one)
            found.look()
            yield found
            one.stop()
    finally:
        stub.kill()
        stub.wait()


def head_of(path: str, key: str, length: int) -> bytes:
    """The head of a request with a body."""
    lines = (f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", "Connection: close")
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def send(port: int, data: list[bytes], answer: list[bytes]) -> None:
    """Send, and keep the answer."""
    with socket.create_connection(("127.0.0.1", port), 120) as client:
        try:
            for each in data:
                client.sendall(each)
        except OSError:
            pass  # refused on the way: the answer says so
        got = b""
        try:
            while piece := client.recv(65_536):
                got += piece
        except OSError:
            pass
        answer.append(got)


class Pinger:
    """Asks over and over with another key, and knows the longest wait for an answer.

    What it asks is refused within one turn of the event loop, so that its wait is the loop's pause.
    """

    def __init__(self, one: House) -> None:
        self._client = socket.create_connection(("127.0.0.1", one.ports["gateway"]), 120)
        key = f"Authorization: Bearer {one.keys['good']}"
        self._ask = f"GET /v1/nothing HTTP/1.1\r\nHost: localhost\r\n{key}\r\n\r\n".encode()

    own_ms = 0.0
    """How long this program itself waited for a processor at worst: on a busy machine the daemon waits as long."""

    def worst_ms(self, until: threading.Thread | None, seconds: float = 0.0) -> float:
        """The longest wait until the thread has ended, or for so long."""
        worst, end = 0.0, time.monotonic() + seconds
        self.own_ms = 0.0
        while until.is_alive() if until is not None else time.monotonic() < end:
            began = time.monotonic()
            self._client.sendall(self._ask)
            if not self._client.recv(65_536).startswith(b"HTTP/1.1 "):
                raise RuntimeError("the pinger was refused")
            worst = max(worst, time.monotonic() - began)
            began = time.monotonic()
            time.sleep(_REST_SECONDS)
            self.own_ms = max(self.own_ms, (time.monotonic() - began - _REST_SECONDS) * 1e3)
        return worst * 1e3

    def close(self) -> None:
        """Ask no more."""
        self._client.close()


def heavy_body(one: House, name: str, path: str, body: bytes, rounds: int) -> Row:
    """Send one body a few times, and see how long the others wait each time and what memory it takes."""
    pinger = Pinger(one)
    before_ms = pinger.worst_ms(None, 0.5)
    before = one.memory_mib()
    one.forget_peak()
    answer: list[bytes] = []
    pauses, own, took = [], [], []
    for _ in range(rounds):
        sender = threading.Thread(
            target=send,
            args=(one.ports["gateway"], [head_of(path, one.keys["evil"], len(body)), body], answer),
        )
        began = time.monotonic()
        sender.start()
        pauses.append(pinger.worst_ms(sender))
        own.append(pinger.own_ms)
        took.append(time.monotonic() - began)
        time.sleep(0.2)
    pause = statistics.median(pauses)
    growth = one.memory_mib("VmHWM") - before
    time.sleep(5)
    kept = one.memory_mib() - before
    pinger.close()
    status = answer[0][9:12].decode() or "none"
    if status == "403":
        raise RuntimeError("the sender was quarantined: this measures nothing")
    served = status == "200" or name != CONTROL
    met = pause <= PAUSE_GOAL_MS and growth <= GROWTH_GOAL_MIB and kept <= KEPT_GOAL_MIB and served
    return Row(
        claim=f"a body of {len(body) / 2**20:.0f} MiB, {name}: the longest wait of another's request (median)",
        value=pause,
        unit="ms",
        goal=f"at most {PAUSE_GOAL_MS:.0f} ms, {GROWTH_GOAL_MIB:.0f} MiB more, of which {KEPT_GOAL_MIB:.0f} are kept",
        met=met,
        peers={
            "worst (ms)": max(pauses),
            "before it (ms)": before_ms,
            "control: this program's own longest wait for a processor meanwhile (median, ms)": statistics.median(
                own
            ),
            "answered": status,
            "after (median, s)": statistics.median(took),
            "memory at most (MiB more)": growth,
            "memory 5 s later (MiB more)": kept,
        },
        n=rounds,
        command=COMMAND,
    )


def unfinished(one: House, count: int) -> Row:
    """One subsystem begins many bodies and finishes none."""
    before = one.memory_mib()
    one.forget_peak()
    clients = [socket.create_connection(("127.0.0.1", one.ports["gateway"]), 30) for _ in range(count)]
    piece = b"x" * (1 << 20)

    def begin(client: socket.socket) -> None:
        try:
            client.sendall(head_of(CHAT, one.keys["evil"], 31 << 20))
            for _ in range(30):
                client.sendall(piece)
        except OSError:
            pass  # refused

    threads = [threading.Thread(target=begin, args=(client,)) for client in clients]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    time.sleep(1)
    growth = one.memory_mib("VmHWM") - before
    answer: list[bytes] = []
    body = b'{"model":"m","max_tokens":5,"messages":[]}'
    send(one.ports["gateway"], [head_of(CHAT, one.keys["good"], len(body)), body], answer)
    for client in clients:
        client.close()
    time.sleep(5)
    kept = one.memory_mib() - before
    served = answer[0][9:12].decode()
    return Row(
        claim=f"{count} unfinished bodies of 30 MiB by one subsystem: the memory they take",
        value=growth,
        unit="MiB",
        goal=f"at most {GROWTH_GOAL_MIB:.0f} MiB, of which {KEPT_GOAL_MIB:.0f} are kept; another is served",
        met=growth <= GROWTH_GOAL_MIB and kept <= KEPT_GOAL_MIB and served == "200",
        peers={"5 s after they are closed (MiB more)": kept, "another's request meanwhile": served},
        n=count,
        command=COMMAND,
    )


def status_seconds(one: House) -> float:
    """How long `epactl status` takes; 20 s where it has not answered by then."""
    command = [EPACTL, "--socket", one.one.state / "run/control.sock", "status"]
    began = time.monotonic()
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=20)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return 20.0
    return time.monotonic() - began


def silent(one: House, place: str, count: int) -> Row:
    """Connections that say nothing, and whether anyone else notices."""
    before = min(status_seconds(one) for _ in range(3))
    lines = len(one.one.log.read_bytes().splitlines())
    clients: list[socket.socket] = []
    began = time.monotonic()
    for _ in range(count):
        try:
            clients.append(socket.create_connection(("127.0.0.1", one.ports[place]), 3))
        except OSError:
            continue
        if time.monotonic() - began > 60:
            break
    worst = max(status_seconds(one) for _ in range(3))
    answer: list[bytes] = []
    body = b'{"model":"m","max_tokens":5,"messages":[]}'
    asker = threading.Thread(
        target=send,
        args=(one.ports["gateway"], [head_of(CHAT, one.keys["good"], len(body)), body], answer),
        daemon=True,
    )
    asker.start()
    asker.join(10)
    served = answer[0][9:12].decode() if answer else "none"
    held = len(list(Path(f"/proc/{one.pid}/fd").iterdir()))
    said = len(one.one.log.read_bytes().splitlines()) - lines
    for client in clients:
        client.close()
    time.sleep(2)
    return Row(
        claim=f"{count:,} silent connections to the {place}: `epactl status` (slowest of 3)",
        value=worst,
        unit="s",
        goal=f"at most {STATUS_GOAL_SECONDS:.0f} s, fewer than {LOG_GOAL_LINES} lines in the log; a request is served",
        met=worst <= STATUS_GOAL_SECONDS and said < LOG_GOAL_LINES and served == "200",
        peers={
            "control: without them (s)": before,
            "lines in the log": said,
            "a request with a key meanwhile": served,
            "descriptors of the daemon": held,
            "connected": len(clients),
        },
        n=count,
        command=COMMAND,
    )


def measure(quick: bool) -> list[Row]:
    """One house for all, so that what one leaves behind is seen in the next."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows: list[Row] = []
    with house() as one:
        for name, (path, body) in shapes(BODY_BYTES // 4 if quick else BODY_BYTES).items():
            rows.append(heavy_body(one, name, path, body, 1 if quick else 5))
        rows.append(unfinished(one, 10 if quick else 40))
        rows += [silent(one, place, 1_500 if quick else 5_000) for place in ("gateway", "web", "metrics")]
    return rows


if __name__ == "__main__":
    sys.exit(run("intake", measure))
