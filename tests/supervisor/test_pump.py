"""The log pump as a process of its own: what it reads, what it outlives, and who comes after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from epad.supervisor.program import PIPE_BYTES, make_pipe, open_log
from epad.supervisor.pump import LOCK, open_lock, take_over, try_lock

MAX_BYTES = 65_536
MOST = MAX_BYTES * 5 // 4
HOME = Path(__file__).parents[2]


def until(true: Callable[[], Any], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


class Pumps:
    """A directory of logs, and the pumps that were started over it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[subprocess.Popen[bytes]] = []
        self.held: list[int] = []

    def start(self, *names: str) -> subprocess.Popen[bytes]:
        pump = subprocess.Popen(
            (sys.executable, "-m", "epad.supervisor.pump", str(self.directory)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.started.append(pump)
        self.tell(pump, *names)
        return pump

    def tell(self, pump: subprocess.Popen[bytes], *names: str, **beside: str) -> None:
        orders = {
            name: {
                "max_bytes": MAX_BYTES,
                "keep": 2,
                "pipes": [str(self.pipe(name)), *([beside[name]] if name in beside else [])],
            }
            for name in names
        }
        assert pump.stdin is not None
        pump.stdin.write(json.dumps({"logs": orders}).encode() + b"\n")
        pump.stdin.flush()

    def pipe(self, name: str) -> Path:
        """Make a pipe, and hold it open as the daemon does: else what is printed before a pump starts is lost."""
        path = self.directory / f"{name}.pipe"
        assert make_pipe(path)
        if not any(os.path.samestat(os.fstat(pipe), path.stat()) for pipe in self.held):
            self.held.append(open_log(path))
        return path

    def let_go(self) -> None:
        for pipe in self.held:
            os.close(pipe)
        self.held.clear()

    def child(self, script: str, name: str = "it", **settings: Any) -> subprocess.Popen[bytes]:
        """Start a process whose output goes to this pipe."""
        output = open_log(self.pipe(name))
        try:
            options: dict[str, Any] = {"stdout": output, "stderr": output} | settings
            child: subprocess.Popen[bytes] = subprocess.Popen(
                (sys.executable, "-c", script), start_new_session=True, **options
            )
        finally:
            os.close(output)
        self.started.append(child)
        return child

    def text(self, name: str = "it") -> str:
        path = self.directory / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def sizes(self) -> dict[str, int]:
        """How much of the disk each log file takes, with its index."""
        sizes: dict[str, int] = {}
        for path in self.directory.glob("*.log*"):
            with suppress(FileNotFoundError):
                name = path.name.removesuffix(".times")
                sizes[name] = sizes.get(name, 0) + path.stat().st_blocks * 512
        return sizes


@pytest.fixture
def pumps(tmp_path: Path) -> Iterator[Pumps]:
    pumps = Pumps(tmp_path)
    yield pumps
    pumps.let_go()
    for process in pumps.started:
        with suppress(ProcessLookupError):  # with what it has forked
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for end in (process.stdin, process.stdout):
            if end is not None:
                with suppress(BrokenPipeError):
                    end.close()


FLOODS = {
    "large blocks": "import os\nblock = b'x' * (1 << 20)\nwhile True: os.write(1, block)",
    "many at once": "import os\nparts = [b'x' * 4095 + b'\\n'] * 256\nwhile True: os.writev(1, parts)",
    "small lines": "while True: print('y')",
    "errors only, no line break": "import sys\nwhile True: sys.stderr.write('e' * 9999)",
    "two processes": "import os\nos.fork()\nblock = b'x' * 99 + b'\\n'\nwhile True: os.write(1, block * 9000)",
    "spliced from a file": (
        "import os, sys\nfile = os.open(sys.executable, os.O_RDONLY)\n"
        "while True: os.splice(file, 1, 65_536, offset_src=0)"
    ),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_stays_within_its_size(pumps: Pumps, flood: str) -> None:
    """Looked at a hundred times while megabytes pass; what it prints is what is kept."""
    pumps.start("it")
    child = pumps.child(FLOODS[flood])
    until(lambda: len(pumps.sizes()) == 3, "two rotations")
    for _ in range(100):
        assert max(pumps.sizes().values()) <= MOST
    assert child.poll() is None


def test_a_flood_keeps_nobody_waiting(pumps: Pumps) -> None:
    """Each pipe is read in its turn."""
    pumps.start("it", "quiet")
    pumps.child(FLOODS["large blocks"])
    until(lambda: pumps.sizes().get("it.log.2"), "the flood")
    pumps.child("print('hello')", "quiet")
    until(lambda: pumps.text("quiet") == "hello\n", "a word beside it")


def test_a_child_that_closes_its_output_goes_on(pumps: Pumps) -> None:
    """And its errors are still kept."""
    pumps.start("it")
    child = pumps.child(
        "import os, sys\nprint('out', flush=True)\nos.close(1)\nsys.stderr.write('err')\n"
        "import time\ntime.sleep(600)"
    )
    until(lambda: pumps.text() == "out\nerr", "both")
    assert child.poll() is None


def test_a_child_may_open_its_output_again(pumps: Pumps) -> None:
    """As `tee /dev/stderr` and servers do that log to /dev/stdout."""
    pumps.start("it")
    pumps.child("open('/dev/stdout', 'w').write('out\\n'); open('/dev/stderr', 'a').write('err\\n')")
    until(lambda: pumps.text() == "out\nerr\n", "both")


def test_a_pump_outlives_its_daemon_and_ends_with_the_last_child(pumps: Pumps) -> None:
    """Its orders end; it goes on; and when nobody is left who could print, it goes."""
    pump = pumps.start("it", "other")
    child = pumps.child(
        "import sys\nfor line in sys.stdin: print(line, end='', flush=True)", stdin=subprocess.PIPE
    )
    assert child.stdin is not None
    child.stdin.write(b"one\n")
    child.stdin.flush()
    until(lambda: pumps.text() == "one\n", "the first line")
    assert pump.stdin is not None
    pumps.let_go()
    pump.stdin.close()
    child.stdin.write(b"two\n")
    child.stdin.flush()
    until(lambda: pumps.text() == "one\ntwo\n", "a line without a daemon")
    assert pump.poll() is None
    child.stdin.write(b"three\n")
    child.stdin.close()
    assert (child.wait(30), pump.wait(30)) == (0, 0)
    assert pumps.text() == "one\ntwo\nthree\n"


def test_a_pump_that_nobody_orders_and_nobody_needs_ends(pumps: Pumps) -> None:
    """Its daemon was killed before it had any child."""
    pump = pumps.start("it")
    assert pump.stdin is not None
    pumps.let_go()
    pump.stdin.close()
    assert pump.wait(30) == 0


def test_children_live_on_when_their_pump_is_killed_and_the_next_reads_on(pumps: Pumps) -> None:
    """They wait when the pipe is full, and lose no line of what the pump had not read."""
    pumps.start("it")
    script = "import os\nfor number in range(300_000): os.write(1, b'%07d\\n' % number)"
    child = pumps.child(script)
    until(lambda: pumps.sizes().get("it.log"), "the first lines")
    pumps.started[0].kill()
    pumps.started[0].wait()
    assert child.poll() is None
    pumps.start("it")
    assert child.wait(60) == 0
    until(lambda: pumps.text().endswith("0299999\n"), "the last line")


def test_without_a_pump_a_child_prints_until_the_pipe_is_full_and_is_not_ended(pumps: Pumps) -> None:
    """So much is room for; the next pump finds all of it."""
    pipe = open_log(pumps.pipe("it"))
    os.set_blocking(pipe, False)
    written = 0
    with suppress(BlockingIOError):
        while True:
            written += os.write(pipe, b"x" * 65_535 + b"\n")
    assert written <= PIPE_BYTES
    assert written >= 65_536
    os.close(os.open(pumps.pipe("it"), os.O_RDWR))  # somebody looks and goes: nothing ends
    pumps.start("it")
    until(lambda: sum(pumps.sizes().values()) > MAX_BYTES, "what waited")
    os.close(pipe)


def test_a_pump_that_starts_takes_over(pumps: Pumps) -> None:
    """The former one is asked to go; one that does not, stopped by somebody, is made to."""
    first = pumps.start("it")
    until(lambda: not try_lock_once(pumps.directory), "its lock")
    second = pumps.start("it")
    assert first.wait(30) == 0
    until(lambda: not try_lock_once(pumps.directory), "the next one's lock")
    second.send_signal(signal.SIGSTOP)
    third = pumps.start("it")
    assert second.wait(30) in {-signal.SIGTERM, -signal.SIGKILL, 0}
    pumps.child("print('hello')")
    until(lambda: pumps.text() == "hello\n", "a line through the third")
    assert third.poll() is None


def try_lock_once(directory: Path) -> bool:
    """Whether nobody has the lock, as another process sees it."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom epad.supervisor.pump import open_lock, try_lock\n"
        "sys.exit(not try_lock(open_lock(Path(sys.argv[1]))))"
    )
    return subprocess.run((sys.executable, "-c", script, str(directory)), check=False).returncode == 0


def test_a_lock_of_nobody_is_taken_at_once(tmp_path: Path) -> None:
    """And one of ours is ours again: locks of this kind are a process's."""
    os.close(take_over(tmp_path))
    assert try_lock(open_lock(tmp_path))


def test_deleted_directory_of_logs(pumps: Pumps) -> None:
    """`rm -rf logs/*` while it runs: everything begins anew, and a child of before is still read."""
    pump = pumps.start("it")
    child = pumps.child(
        "import sys\nfor line in sys.stdin: print(line, end='', flush=True)", stdin=subprocess.PIPE
    )
    assert child.stdin is not None
    child.stdin.write(b"one\n")
    child.stdin.flush()
    until(lambda: pumps.text() == "one\n", "the first line")
    pumps.let_go()
    for path in pumps.directory.iterdir():
        path.unlink()
    child.stdin.write(b"two\n")
    child.stdin.flush()
    until(lambda: pumps.text() == "two\n", "a line after it")
    until((pumps.directory / LOCK).exists, "a lock again")
    pump.kill()
    pump.wait()
    child.stdin.write(b"three\n")
    child.stdin.flush()
    new = pumps.start()
    pumps.tell(new, "it", it=f"/proc/{child.pid}/fd/1")
    pumps.child("print('of a new child')")
    until(lambda: set(pumps.text().split("\n")) >= {"two", "three", "of a new child"}, "both pipes")


def test_what_is_configured_no_more_is_read_to_its_end(pumps: Pumps) -> None:
    """A reload takes a subsystem out; its last words are kept."""
    pump = pumps.start("it", "other")
    child = pumps.child("input()\nprint('last words')", stdin=subprocess.PIPE)
    pumps.tell(pump, "other")
    pumps.child("print('still here')", "other")
    until(lambda: pumps.text("other"), "the other's line")
    child.communicate(b"\n", 30)
    until(lambda: pumps.text() == "last words\n", "its last words")


def test_what_is_configured_again_is_read_on_after_the_end_of_a_child(pumps: Pumps) -> None:
    """A reload takes a subsystem out and the next puts it back, while a process of before has its pipe open."""
    pump = pumps.start("it", "other")
    straggler = pumps.child("print('of before')\ninput()", stdin=subprocess.PIPE)
    until(lambda: pumps.text() == "of before\n", "its line")
    pumps.let_go()
    pumps.tell(pump, "other")
    pumps.tell(pump, "it", "other")
    pumps.child("print('ordered')", "other")
    until(lambda: pumps.text("other"), "the orders were heard")
    pumps.let_go()
    straggler.communicate(b"\n", 30)
    pumps.child("print('heard last')", "other")
    until(lambda: "heard last" in pumps.text("other"), "the end of the first is noticed")
    pumps.child("print('of a new child')")
    until(lambda: "of a new child" in pumps.text(), "what is printed next")


def test_it_loads_nothing_that_it_does_not_need() -> None:
    """It stays as long as the children: each of these would be up to 2 MiB more, for as long."""
    heavy = {"dataclasses", "inspect", "typing", "socket", "structlog", "msgspec", "asyncio", "site"}
    script = f"import sys, epad.supervisor.pump; print(sorted({heavy} & sys.modules.keys()))"
    ran = subprocess.run(
        (sys.executable, "-S", "-c", script), capture_output=True, text=True, check=True, cwd=HOME
    )
    assert ran.stdout == "[]\n"
