"""An upgrade: the daemon begins again in its own process, and what it supervises notices nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from installed import QUICK, installation

from epad import __version__
from epad.daemon.state_format import FORMAT

CHILDREN = """
[subsystems.steady]
command = ["sleep", "98765"]
[subsystems.printing]
command = ["sh", "-c", "while :; do echo x; sleep 0.1; done"]
[subsystems.held]
command = ["sleep", "98764"]
"""


def test_an_upgrade_keeps_every_process_and_every_door() -> None:
    """The same daemon's process number, children, gateway's address, holds, and a ledger without a fault."""
    with installation(QUICK + CHILDREN) as house:
        house.start()
        assert house.process is not None
        house.ctl("quarantine", "held", "--reason", "a test")
        house.wait(lambda: house.subsystem("held")["state"] == "quarantined", "the hold")
        before = house.status()
        for _ in range(3):
            done = house.ctl("upgrade", "--reason", "a test")
            assert done.returncode == 0, done.stderr
            assert "3 of 3 processes run on" in done.stdout
        after = house.status()
        assert house.process.poll() is None
        for same in ("pid", "gateway"):
            assert after[same] == before[same]
        children = [[one["pid"] for one in status["subsystems"]] for status in (before, after)]
        assert children[0] == children[1]
        assert set(children[1]) <= house.children().keys()
        states = {one["name"]: one["state"] for one in after["subsystems"]}
        assert states == {"steady": "running", "printing": "running", "held": "quarantined"}
        assert house.verify_ledger().returncode == 0
        assert house.stop() == 0
        assert house.children() == {}


def test_who_connects_during_an_upgrade_waits_and_is_answered() -> None:
    """The gateway's sockets outlive the program, a subsystem's own as well: no connection is refused."""
    with installation() as house:
        door = house.directory / "own.sock"
        house.config.write_text(
            QUICK + CHILDREN + f'[subsystems.own]\nkind = "client"\nlisten = "unix:{door}"\n'
        )
        house.start()
        host, _, port = house.status()["gateway"]["url"].removeprefix("http://").rpartition(":")
        stop = threading.Event()
        answers: dict[str, list[bytes]] = {"gateway": [], "door": []}

        def ask(name: str, connect: Callable[[], socket.socket]) -> None:
            while not stop.is_set():
                # A reset is of one that was being served when the daemon went; a refusal is raised by `connect`.
                with connect() as one, contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    answers[name].append(one.recv(99))

        def own() -> socket.socket:
            one = socket.socket(socket.AF_UNIX)
            one.connect(str(door))
            return one

        with ThreadPoolExecutor() as pool:
            asking = [
                pool.submit(ask, "gateway", lambda: socket.create_connection((host, int(port)), 30)),
                pool.submit(ask, "door", own),
            ]
            for _ in range(2):
                assert house.ctl("upgrade", "--reason", "a test").returncode == 0
            stop.set()
            for one in asking:
                one.result(30)  # a refused connection is raised here
        for given in answers.values():
            # What was being served when the daemon went may have no answer; whoever came then has one.
            assert sum(answer.startswith(b"HTTP/1.1 200") for answer in given) > 2, given
        assert house.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), 5)


def test_an_older_epad_does_not_touch_the_state_of_a_newer_one() -> None:
    """It says which one wrote it, and what to do."""
    with installation(QUICK) as house:
        house.start()
        house.stop()
        note = house.state / "format.json"
        assert json.loads(note.read_text()) == {"format": FORMAT, "version": __version__}
        note.write_text(json.dumps({"format": FORMAT + 1, "version": "99.0"}))
        said = house.start_refused()
        assert "was written by epad 99.0" in said
        assert "install that one again" in said


def test_what_is_taken_out_of_the_file_while_no_daemon_runs_is_stopped_at_the_next_start() -> None:
    """As a reload would have done; what stays in the file is adopted as it runs."""
    with installation(QUICK + CHILDREN) as house:
        house.start()
        pids = {one["name"]: one["pid"] for one in house.status()["subsystems"]}
        house.kill()
        house.config.write_text(QUICK + CHILDREN.partition("[subsystems.held]")[0])
        house.start()
        assert house.subsystem("steady")["pid"] == pids["steady"]
        assert pids["held"] not in house.children()
        [told] = [line for line in house.log.read_text().splitlines() if "subsystem.left_over" in line]
        assert json.loads(told)["subsystem"] == "held"
