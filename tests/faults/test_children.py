"""Children at their worst, under the installed daemon: each with the outcome that is promised."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from installed import QUICK, Installation, installation, process_state

from epad.epactl import main

PYTHON = f'command = ["{sys.executable}", "-S", "-c", """%s"""]\n'

PRINTER = r"""
import os, time
count = 0
while True:
    print("x" * 5_000, count)
    count += 1
    open("count.new", "w").write(str(count))
    os.replace("count.new", "count")
    time.sleep(0.04)
"""

BOMB = r"""
import os, time
for _ in range(500):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(0.05)
        os._exit(0)
    os.wait()
open("done", "w").write("500")
time.sleep(600)
"""

STUBBORN = r"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
open("up", "a").write("x")
time.sleep(600)
"""

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long back(void) { const char *f = getenv("SET_BACK"); return f && !access(f, F_OK) ? 3600 : 0; }
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(id, t);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) t->tv_sec -= back();
    return r;
}
int gettimeofday(struct timeval *restrict t, void *restrict z) {
    (void)z;
    struct timespec s;
    clock_gettime(CLOCK_REALTIME, &s);
    t->tv_sec = s.tv_sec; t->tv_usec = s.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec s;
    clock_gettime(CLOCK_REALTIME, &s);
    if (out) *out = s.tv_sec;
    return s.tv_sec;
}
"""


def subsystem(name: str, source: str, rest: str = "") -> str:
    return f"[subsystems.{name}]\n" + PYTHON % source.replace("\\", "\\\\") + rest


def daemons_dead_children(house: Installation) -> list[int]:
    """The children of the daemon that have ended and that it has not reaped."""
    assert house.process is not None
    listed = Path(f"/proc/{house.process.pid}/task/{house.process.pid}/children").read_text().split()
    return [int(pid) for pid in listed if is_dead(int(pid))]


def is_dead(pid: int) -> bool:
    """Whether it has ended and nobody has reaped it: False for one that is reaped while we look."""
    try:
        return process_state(pid) == "Z"
    except OSError:
        return False


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_full_disk_log_neither_blocks_nor_kills_the_child() -> None:
    """It prints more onto a full disk than was reserved, alive and unrestarted; the daemon says what was dropped."""
    with installation(QUICK + subsystem("it", PRINTER)) as house, small_disk(house.state / "logs"):
        house.start()
        counter = house.state / "subsystems/it/count"
        house.wait(counter.exists, "the first line")
        log = house.state / "logs/it.log"
        house.wait(log.exists, "the first line in its log")
        house.wait(lambda: log.stat().st_blocks * 512 > 1 << 20, "room ahead of the log")
        with pytest.raises(OSError, match="No space"):
            (house.state / "logs/hog").write_bytes(b"x" * (8 << 20))
        begun, pid = int(counter.read_text()), house.subsystem("it")["pid"]
        house.wait(lambda: int(counter.read_text()) > begun + 300, "300 lines on a full disk")
        it = house.subsystem("it")
        assert (it["state"], it["pid"], it["restarts"]) == ("running", pid, 0)
        assert "child_log.dropped" in house.log.read_text()
        newest = house.ctl("logs", "it", "-n", "1").stdout.split()[-1]
        assert int(newest) > begun, "what is printed now can be read"
        assert house.stop() == 0


def test_a_stopped_child_is_hung_and_not_running() -> None:
    """Within a second of somebody's SIGSTOP, with its reason; left alone, it runs again when let go."""
    with installation(QUICK + subsystem("it", "import time; time.sleep(600)")) as house:
        house.start()
        pid = house.subsystem("it")["pid"]
        os.kill(pid, signal.SIGSTOP)
        house.wait(lambda: house.subsystem("it")["state"] == "hung", "it to be shown hung")
        house.wait_phase("QUARANTINE")
        (anomaly,) = house.status()["anomalies"]
        assert anomaly["id"] == "liveness/it"
        assert "stopped by a signal that is not epad's" in anomaly["reason"]
        os.kill(pid, signal.SIGCONT)
        house.wait(lambda: house.subsystem("it")["state"] == "running", "it to run again")
        assert house.subsystem("it")["pid"] == pid


def test_a_hung_child_is_replaced_where_so_configured() -> None:
    """`hung_seconds` later the stopped process is gone and another runs."""
    restart = "[subsystems.it.restart]\nhung_seconds = 0.5\nbackoff_seconds = 0.01\n"
    with installation(QUICK + subsystem("it", "import time; time.sleep(600)", restart)) as house:
        house.start()
        pid = house.subsystem("it")["pid"]
        os.kill(pid, signal.SIGSTOP)
        house.wait(lambda: house.subsystem("it")["pid"] not in {pid, None}, "a replacement")
        assert not Path(f"/proc/{pid}").exists()
        assert house.events("subsystem.exited")[0]["fields"]["status"].startswith("hung: ")


def test_a_fork_bomb_of_short_lived_grandchildren_is_reaped() -> None:
    """500 daemonised ones: none stays a zombie, the daemon answers all the while, and a stop leaves nothing."""
    with installation(QUICK + subsystem("it", BOMB)) as house:
        house.start()
        house.wait((house.state / "subsystems/it/done").exists, "500 grandchildren")
        assert house.subsystem("it")["state"] == "running"
        house.wait(lambda: not daemons_dead_children(house), "every one of them to be reaped")
        assert house.stop() == 0
        assert house.children() == {}


def test_a_child_that_ignores_term_is_killed_with_its_whole_tree() -> None:
    """After `stop_seconds`; what it daemonised goes with it, and the daemon's stop is an orderly one."""
    rest = "stop_seconds = 0.5\n"
    with installation(
        QUICK + "[containment]\noperator = 'stop'\n" + subsystem("it", STUBBORN, rest)
    ) as house:
        house.start()
        up = house.state / "subsystems/it/up"
        house.wait(lambda: up.exists() and len(up.read_text()) == 2, "both of its processes")
        assert len(house.children()) == 2
        assert house.ctl("quarantine", "it", "--reason", "enough").returncode == 0
        assert house.children() == {}
        assert house.subsystem("it")["state"] == "stopped"
        assert house.ctl("release", "it", "--reason", "again").returncode == 0
        house.wait(lambda: len(up.read_text()) == 4, "both again")
        assert house.stop() == 0
        assert house.children() == {}


def test_a_clock_set_back_an_hour_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead child is replaced, probes look, an anomaly clears: all on the monotonic clock. The jump is told."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for a clock that can be set")
    quick = (
        QUICK
        + "[hysteresis.liveness]\nclear_after_seconds = 1.0\n[probes.liveness]\ninterval_seconds = 0.5\n"
    )
    restart = "[subsystems.it.restart]\nbackoff_seconds = 0.01\n"
    with installation(quick + subsystem("it", "import time; time.sleep(600)", restart)) as house:
        source, library = house.directory / "clock.c", house.directory / "clock.so"
        source.write_text(CLOCK)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        monkeypatch.setenv("LD_PRELOAD", str(library))
        monkeypatch.setenv("SET_BACK", str(house.directory / "set_back"))
        house.start()
        monkeypatch.delenv("LD_PRELOAD")
        pid = house.subsystem("it")["pid"]
        os.kill(pid, signal.SIGSTOP)
        house.wait_phase("QUARANTINE")
        (house.directory / "set_back").touch()
        house.wait(lambda: bool(house.events("clock.jumped")), "the jump to be told")
        assert house.events("clock.jumped")[0]["fields"]["seconds"] < -3590
        os.kill(pid, signal.SIGCONT)
        house.wait_phase("NORMAL")
        os.kill(pid, signal.SIGKILL)
        house.wait(lambda: house.subsystem("it")["pid"] not in {pid, None}, "a replacement")
        house.wait(
            lambda: all((probe["age_seconds"] or 0) < 15 for probe in house.status()["probes"]),
            "probes to look",
        )
        assert house.stop() == 0


def as_user(uid: int, *words: str) -> tuple[int, str]:
    """Run `epactl` as somebody else, in a fork: the interpreter itself may lie where they cannot read."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        status = main.main(words)
        sys.stdout.flush()
        os._exit(status)
    os.close(write)
    with os.fdopen(read) as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def test_an_unprivileged_caller_looks_and_gives_no_order() -> None:
    """Whoever reaches the socket may knock; the gate goes by their tier, which the kernel vouches for."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    somebody = 54_321
    with installation(QUICK + subsystem("it", "import time; time.sleep(600)")) as house:
        house.start()
        pid = house.subsystem("it")["pid"]
        house.directory.chmod(0o711)
        house.state.chmod(0o711)
        control = house.state / "run/control.sock"
        assert as_user(somebody, "--socket", str(control), "status")[0] == 0
        for order in (
            ["quarantine", "it", "--reason", "x"],
            ["pause", "it", "--reason", "x"],
            ["reload"],
            ["logs", "it"],
            ["lifeboat", "enter", "--yes", "--reason", "x"],
        ):
            status, said = as_user(somebody, "--socket", str(control), *order)
            assert (status, f"uid {somebody}" in said) == (5, True), (order, said)
        it = house.subsystem("it")
        assert (it["state"], it["pid"]) == ("running", pid)
        refused = [e["fields"] for e in house.events("gate.decided") if not e["fields"]["allowed"]]
        assert [e["tier"] for e in refused] == ["observer"] * 5
        assert json.loads(house.ctl("-o", "json", "phase").stdout)["phase"] == "NORMAL"
