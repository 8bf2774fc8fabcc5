"""Unconfined processes that root's daemon runs as another user: what they are, and that they outlive the daemon."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from installed import QUICK, Installation, installation

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

USER, UID = "nobody", 65534
# Says who it is, and whether it can read what is root's; then tells epad of each round.
SOURCE = """
import json, os, socket, time
def passes(work):
    try:
        return bool(work())
    except OSError:
        return False
one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); number = 0
seen = {"ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(), "home": os.environ.get("HOME"),
    "names": [os.environ.get("USER"), os.environ.get("LOGNAME")], "here": os.getcwd(),
    "shadow": passes(lambda: open("/etc/shadow").read()), "state": passes(lambda: os.listdir(STATE)),
    "ledger": passes(lambda: open(STATE + "/ledger.db", "rb").read(1)),
    "root again": passes(lambda: os.setuid(0) is None)}
open("who.json.new", "w").write(json.dumps(seen)); os.rename("who.json.new", "who.json")
print("printed", flush=True)
while True:
    number += 1; time.sleep(0.02)
    try: one.sendto(f"READY=1\\nSTATUS=round {number}".encode(), os.environ["NOTIFY_SOCKET"])
    except OSError: pass
"""


@contextmanager
def house(table: str = "", user: str = USER) -> Iterator[tuple[Installation, Path]]:
    """A daemon with a subsystem of that user, in a directory of the user's; its sockets are outside of the state."""
    with tempfile.TemporaryDirectory(prefix="epad-user-", dir="/var/tmp") as place, installation() as one:
        work, run = Path(place) / "work", Path(place) / "run"
        Path(place).chmod(0o755)
        work.mkdir()
        os.chown(work, UID, UID)
        command = json.dumps(["/usr/bin/python3", "-S", "-c", f"STATE = {str(one.state)!r}\n{SOURCE}"])
        one.runtime = run
        one.config.write_text(
            f'{QUICK}[daemon]\nruntime_directory = "{run}"\n[subsystems.child]\nuser = "{user}"\nnotifies = true\n'
            f'working_directory = "{work}"\ncommand = {command}\n{table}'
        )
        yield one, work


def heard(one: Installation) -> None:
    one.wait(lambda: "round" in one.subsystem("child")["status"], "its status")


def test_it_is_its_user_in_every_respect() -> None:
    """All ids, the groups and the variables; root's files and epad's state are closed; its output is in its log."""
    with house() as (one, work):
        one.start()
        heard(one)
        who = json.loads((work / "who.json").read_text())
        assert who["ids"] == [UID] * 6
        assert 0 not in who["groups"]
        assert who["home"] != os.environ.get("HOME")
        assert who["names"] == [USER, USER]
        assert who["here"] == str(work)
        assert [who[key] for key in ("shadow", "state", "ledger", "root again")] == [False] * 4
        one.wait(lambda: one.ctl("logs", "child").stdout.endswith("printed\n"), "its output")
        assert (work / "who.json").stat().st_uid == UID
        assert one.stop() == 0
        assert one.children() == {}


@pytest.mark.parametrize("way", ["kill", "upgrade"])
def test_the_next_daemon_takes_it_over_as_it_is(way: str) -> None:
    """The same process, the same user, heard by the socket made anew, and held and let go."""
    with house() as (one, _):
        one.start()
        heard(one)
        pid = one.subsystem("child")["pid"]
        if way == "kill":
            one.kill()
            one.start()
        else:
            assert one.ctl("upgrade", "--reason", "a test").returncode == 0
        heard(one)
        assert one.subsystem("child")["pid"] == pid
        assert Path(f"/proc/{pid}").stat().st_uid == UID
        assert one.ctl("quarantine", "child", "--reason", "a test").returncode == 0
        one.wait(lambda: one.subsystem("child")["state"] == "quarantined", "the hold")
        assert one.ctl("release", "child", "--reason", "a test").returncode == 0
        one.wait(lambda: one.subsystem("child")["state"] == "running", "the release")
        assert one.stop() == 0
        assert one.children() == {}


def test_a_number_without_a_name_is_enough() -> None:
    """It has no home, and keeps the daemon's variables."""
    with house(user="12346") as (one, work):
        os.chown(work, 12346, 12346)
        one.start()
        heard(one)
        assert json.loads((work / "who.json").read_text())["ids"] == [12346] * 6
        assert one.stop() == 0


def test_a_directory_that_is_closed_to_its_user_ends_the_start() -> None:
    """The status names the user, the directory and the key."""
    with house() as (one, work):
        work.parent.chmod(0o700)
        one.start()
        one.wait(lambda: one.subsystem("child")["state"] == "failed", "the failure")
        status = one.subsystem("child")["status"]
        assert f"nobody cannot enter {work.parent}" in status
        assert "subsystems.child.working_directory" in status


def test_a_notify_socket_out_of_its_reach_ends_the_start() -> None:
    """Below the state; without `notifies` it starts, and is not heard."""
    with house() as (one, work):
        text = "\n".join(
            line for line in one.config.read_text().splitlines() if "runtime_directory" not in line
        )
        one.config.write_text(text)
        one.runtime = None
        one.start()
        one.wait(lambda: one.subsystem("child")["state"] == "failed", "the failure")
        assert "set daemon.runtime_directory" in one.subsystem("child")["status"]
        one.config.write_text(text.replace("notifies = true", "notifies = false"))
        assert one.ctl("reload").returncode == 0
        assert one.ctl("restart", "child", "--reason", "a test").returncode == 0
        one.wait((work / "who.json").exists, "its start")
        assert one.stop() == 0


def test_a_user_whom_nobody_knows_is_refused_before_anything_starts() -> None:
    """By `epad check` and by `epad run`: the file, the line and the fix."""
    with house(user="no-such-user") as (one, _):
        said = one.start_refused()
        assert "no-such-user, whom this machine does not know" in said
        assert str(one.config) in said
        assert "make the user" in said
