"""The secrets vault under the installed daemon: kept, used by reference, rotated while in use, and found nowhere."""

from __future__ import annotations

import base64
import os
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_lacks import is_lacking
from patience import PATIENCE_SECONDS
from secret_day import IN_FLIGHT, Day, day, live, live_on
from secret_scan import Scan

pytestmark = [
    pytest.mark.skipif(is_lacking("root"), reason="only root may seal by the host key"),
    pytest.mark.skipif(
        is_lacking("program systemd-creds"), reason="no systemd-creds here: apt-get install systemd"
    ),
]


@pytest.fixture
def one() -> Iterator[Day]:
    """A day whose daemon may dump its core, as large as it is."""
    former = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (former[1], former[1]))
        with day() as begun:
            yield begun
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, former)


def test_a_day_leaves_no_value_anywhere(one: Day) -> None:
    """Of 200 turns around a rotation none fails; a planted copy of a value is found; no core is written."""
    counted = live(one)
    assert counted.statuses == [200] * (2 * IN_FLIGHT)
    assert counted.keys[:IN_FLIGHT] == [counted.former] * IN_FLIGHT
    assert set(counted.keys[IN_FLIGHT:]) == {one.values[2]}
    scan = Scan(*one.values)
    assert one.leaks(scan) == []
    kinds = one.pids()
    assert {"daemon", "way out", "agent"} <= set(kinds.values())
    way_out = next(pid for pid, kind in kinds.items() if kind == "way out")
    assert list(scan.memory(way_out)), "the control: there the values are"
    with one.house.log.open("ab") as log:
        log.write(base64.b64encode(b"Bearer " + one.values[0]) + b"\n")
    assert {leak.place for leak in scan.file(one.house.log)} == {str(one.house.log)}

    used = {line.split()[0]: line for line in one.epactl("secret", "list").stdout.decode().splitlines()}
    assert "agent secret.example" in used["token"]
    assert "gateway 127.0.0.1" in used["upstream"]
    events = {(event["subsystem"], *event["fields"].values()) for event in one.house.events("secret.used")}
    assert {("agent", "token", "secret.example"), ("gateway", "upstream", "127.0.0.1")} <= events
    assert one.house.process is not None
    one.house.process.send_signal(signal.SIGABRT)
    ended = os.waitid(os.P_PID, one.house.process.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert ended.si_code == os.CLD_KILLED  # with a core it were CLD_DUMPED
    one.house.process.wait(PATIENCE_SECONDS)


def test_a_value_leaves_the_vault_by_an_export_alone(one: Day, tmp_path: Path) -> None:
    """To a new file of one's own, asked for and on record. What is bound elsewhere, or removed, is refused."""
    value = one.keep("token", "agent", "secret.example")
    one.house.wait(lambda: one.host.shown, "the agent to use its token")
    to = tmp_path / "exported"
    words = ("secret", "export", "token", "--to", str(to), "--reason", "a new machine")
    assert one.epactl(*words).returncode == 2  # nobody is there to ask
    assert not to.exists()
    assert one.epactl(*words, "--yes").returncode == 0
    assert (to.read_bytes(), stat.S_IMODE(to.stat().st_mode)) == (value, 0o600)
    assert one.epactl(*words, "--yes").returncode == 4  # never over a file
    orders = [event["fields"] for event in one.house.events("order.given")]
    assert any(each["order"] == "export_secret" and "token" in each["reason"] for each in orders)

    said = one.house.state / "subsystems/agent/count"
    assert one.epactl("secret", "bind", "token", "--host", "other.example").returncode == 0
    one.house.wait(lambda: "403" in said.read_text(), "the agent to be refused")
    assert one.epactl("secret", "bind", "token", "--host", "secret.example").returncode == 0
    one.house.wait(lambda: said.read_text().endswith(" ok"), "the agent to be let through again")
    assert one.epactl("secret", "remove", "token", "--reason", "r", "--yes").returncode == 0
    one.house.wait(lambda: "403" in said.read_text(), "the agent to be refused")
    assert one.epactl("secret", "test", "token").returncode == 4
    assert list(Scan(value).tree(one.house.directory)) == []


@pytest.mark.slow
def test_the_next_daemon_opens_what_the_last_one_kept(one: Day) -> None:
    """And a file changed, or put in the place of another, is refused and told."""
    live(one)
    live_on(one)
    assert one.leaks(Scan(*one.values)) == []
    files = one.house.state / "secrets"
    whole = (files / "token.secret").read_bytes()
    (files / "upstream.secret").write_bytes(whole)
    (files / "token.secret").write_bytes(whole.replace(b"secret.example", b"evil.example!!"))
    for name in ("token", "upstream"):
        done = one.epactl("secret", "test", name)
        assert (done.returncode, b"refused" in done.stderr) == (1, True), done
