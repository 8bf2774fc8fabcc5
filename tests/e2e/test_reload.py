"""A configuration that is changed under a running daemon."""

from __future__ import annotations

import json
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS
from sick_server import AGENT, SickServer, asked

PROGRAM = f'command = ["{sys.executable}", "-S", "-c", "import time; time.sleep(%d)"]\n'
KEPT = "[subsystems.kept]\n" + PROGRAM % 600
CHANGED = "[subsystems.changed]\n" + PROGRAM % 600
REMOVED = "[subsystems.removed]\n" + PROGRAM % 600


def pids(house: Installation) -> dict[str, int]:
    return {s["name"]: s["pid"] for s in house.status()["subsystems"]}


def test_a_reload_touches_what_has_changed_and_nothing_else() -> None:
    """Added, removed, restarted, adjusted: each as the answer says; a second reload has nothing to do."""
    with installation(QUICK + KEPT + CHANGED + REMOVED) as house:
        house.start()
        before = pids(house)
        budget = "[subsystems.kept.budget]\ntokens_per_minute = 500\n"
        added = "[subsystems.added]\n" + PROGRAM % 600
        house.config.write_text(QUICK + KEPT + budget + CHANGED.replace("600", "601") + added)
        said = house.ctl("reload").stdout
        for line in (
            "added: added",
            "removed: removed",
            "restarted: changed",
            "adjusted while running: kept",
        ):
            assert line in said
        after = pids(house)
        assert after["kept"] == before["kept"]
        assert after["changed"] != before["changed"]
        assert sorted(after) == ["added", "changed", "kept"]
        assert sorted(house.children().values()) == ["added", "changed", "kept"]
        assert house.subsystem("kept")["budget"]["tokens_per_minute"]["limit"] == 500
        assert "nothing has changed" in house.ctl("reload").stdout
        with urllib.request.urlopen(house.status()["metrics"]["url"], timeout=PATIENCE_SECONDS) as answer:
            series = answer.read().decode()
        assert 'epad_turns_in_flight{subsystem="added"} 0.0' in series
        assert 'epad_turns_in_flight{subsystem="removed"}' not in series
        assert house.stop() == 0
        assert house.children() == {}


def test_a_broken_file_changes_nothing_and_is_named() -> None:
    """By `epactl` and in the log, with file, line and key; what only a restart applies says so."""
    with installation(QUICK + KEPT) as house:
        house.start()
        before = pids(house)
        house.config.write_text(QUICK + KEPT + "[subsystems.more]\ncommand = 5\n")
        refused = house.ctl("reload")
        assert refused.returncode == 1
        assert f"{house.config}:" in refused.stdout
        assert "subsystems.more.command" in refused.stdout
        assert pids(house) == before
        house.config.write_text("")
        refused = house.ctl("reload")
        assert (refused.returncode, pids(house)) == (1, before)
        assert f"{house.config}: says nothing any more; was it cut short?" in refused.stdout
        house.config.write_text(QUICK.replace("verify_seconds = 2.0", "verify_seconds = 3.0") + KEPT)
        assert "in force: policy" in house.ctl("reload").stdout
        house.config.write_text(QUICK.replace("127.0.0.1:0", "127.0.0.1:9", 1) + KEPT)
        assert "waiting for a restart of epad: [gateway]" in house.ctl("reload").stdout
        assert pids(house) == before


def test_sighup_reloads_and_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RELOADING=1 with the time it began, then READY=1, as sd_notify(3) wants it; a start asks for time first."""
    with installation(QUICK + KEPT) as house, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(house.directory / "manager.sock"))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(house.directory / "manager.sock"))
        house.start()
        assert house.process is not None
        assert manager.recv(4096).startswith(b"EXTEND_TIMEOUT_USEC=")
        while b"READY=1" not in manager.recv(4096):
            pass
        house.config.write_text(QUICK + KEPT + REMOVED)
        house.process.send_signal(signal.SIGHUP)
        house.wait(lambda: "removed" in pids(house), "what was added")
        told: list[bytes] = []
        while b"READY=1" not in told:
            told += [line for line in manager.recv(4096).splitlines() if not line.startswith(b"STATUS")]
        assert told[0] == b"RELOADING=1"
        assert told[1].startswith(b"MONOTONIC_USEC=")
        assert house.stop() == 0


ASKING = """
[upstreams.model]
url = "http://127.0.0.1:{port}"
dialects = ["openai"]
[subsystems.agent]
command = {command}
"""


def test_servers_prices_and_addresses_change_under_an_agent() -> None:
    """The agent keeps its process, misses no answer, and is served by the new server after the reload."""
    old, new = SickServer("well"), SickServer("well")
    try:
        with installation() as house, socket.socket() as taken:
            log, script = house.directory / "agent.log", house.directory / "agent.py"
            script.write_text(AGENT)
            command = json.dumps([sys.executable, str(script), "0.05", "10", str(log)])
            house.config.write_text(QUICK + ASKING.format(port=old.port, command=command))
            house.start()
            house.wait(lambda: len(asked(log)) > 5, "answers")
            before = pids(house)
            door = house.directory / "own.sock"
            text = QUICK.replace('[metrics]\nlisten = "127.0.0.1:0"', '[metrics]\nlisten = ""')
            text += ASKING.format(port=new.port, command=command) + f'listen = "unix:{door}"\n'
            text += "[prices.m]\ninput = 1.0\noutput = 2.0\n"
            house.config.write_text(text)
            said = house.ctl("reload").stdout
            assert "in force: metrics, prices, upstreams" in said
            assert "adjusted while running: agent" in said
            served, many = old.turns, len(asked(log))
            house.wait(lambda: new.turns > 5 and len(asked(log)) > many + 5, "answers of the new server")
            assert old.turns <= served + 1
            assert {each["status"] for each in asked(log)} == {200}
            assert pids(house) == before
            assert door.is_socket()
            assert house.status()["metrics"]["url"] in {"", None}
            assert house.subsystem("agent")["spent_microusd"] > 0
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            busy = f'listen = "127.0.0.1:{taken.getsockname()[1]}"'
            house.config.write_text(text.replace(f'listen = "unix:{door}"', busy))
            refused = house.ctl("reload")
            assert refused.returncode == 1
            assert "nothing was changed" in refused.stdout
            assert "[subsystems.agent] listen" in refused.stdout
            assert door.is_socket()
            assert house.stop() == 0
    finally:
        old.close()
        new.close()
