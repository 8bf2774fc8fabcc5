"""epad as root beside the system's own manager: foreign units held, a blocked child without a network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from systemd_box import BIN, SystemdBox, systemd_box

# Another machine, as far as the filter can tell: not loopback's own network.
ELSEWHERE = "198.51.100.1"
TALKER = f"""
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    try:
        s.sendto(b"x", ("{ELSEWHERE}", 9)); said = "sent"
    except OSError as error:
        said = error.strerror
    try:
        s.sendto(b"x", ("127.0.0.1", 9)); near = "sent"
    except ConnectionRefusedError:
        near = "sent"
    except OSError as error:
        near = error.strerror
    open("said.tmp", "w").write(said + "," + near)
    __import__("os").rename("said.tmp", "said")
    time.sleep(0.05)
"""
CONFIG = """
[gateway]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[containment]
operator = "block"
identity = "freeze"
[subsystems.talker]
command = ["python3", "talker.py"]
working_directory = "/srv/talker"
[subsystems.walled]
command = ["sleep", "98768"]
working_directory = "/srv/walled"
[subsystems.walled.confine]
profile = "workspace"
[subsystems.other]
command = ["sh", "-c", "(id -un; id -G; echo $HOME $USER) > who.new; mv who.new who; exec sleep 98769"]
user = "nobody"
working_directory = "/srv/other"
[subsystems.model]
kind = "unit"
unit = "model.service"
[subsystems.model.health]
command = ["sh", "-c", "test ! -e /srv/unwell"]
interval_seconds = 0.2
failures = 2
[subsystems.watched]
kind = "unit"
unit = "watched.service"
"""
MODEL = "[Service]\nExecStart=/bin/sleep 98766\n"
WATCHED = (
    "[Service]\nType=notify\nNotifyAccess=all\nWatchdogSec=1h\n"  # nobody feeds it: longer than the tests before
    'ExecStart=/bin/sh -c "systemd-notify --ready; exec sleep 98767"\n'
)


@pytest.fixture(scope="module")
def box() -> Iterator[SystemdBox]:
    with systemd_box(f"root-{os.getpid()}") as box:
        box.run("ip", "address", "add", f"{ELSEWHERE}/32", "dev", "lo")
        box.write("/srv/talker/talker.py", TALKER)
        box.write("/srv/walled/readme", "")
        box.write("/srv/other/readme", "")
        box.run("chown", "nobody", "/srv/other")
        box.write("/etc/epad-root.toml", CONFIG)
        box.write("/etc/systemd/system/model.service", MODEL)
        box.write("/etc/systemd/system/watched.service", WATCHED)
        box.run("systemctl", "daemon-reload")
        start(box)
        yield box


def start(box: SystemdBox, *replacements: tuple[str, str]) -> None:
    """Run the daemon as root, its configuration with some words replaced."""
    text = CONFIG
    for old, new in replacements:
        text = text.replace(old, new)
    box.write("/etc/epad-root.toml", text)
    box.run("systemctl", "stop", "epad-root", check=False)
    properties = ("-pStateDirectory=epad", "-pRuntimeDirectory=epad", "-pKillMode=mixed", "-pType=notify")
    command = (BIN / "epad", "run", "--config", "/etc/epad-root.toml")
    box.run("systemd-run", "-q", "-u", "epad-root", "--collect", *properties, *command)


def said(box: SystemdBox) -> str:
    file = box.root / "srv/talker/said"
    return file.read_text() if file.exists() else ""


def test_a_blocked_child_reaches_loopback_alone(box: SystemdBox) -> None:
    """It still hears the gateway's refusals; every other address is refused by the kernel, until it is released."""
    assert "system manager" in box.epactl("status")["engine"]
    box.wait(lambda: said(box) == "sent,sent", "the talker to be heard")
    box.epactl("quarantine", "talker", "--reason", "a test")
    box.wait(lambda: said(box) == "Operation not permitted,sent", "the network to be cut")
    box.epactl("release", "talker", "--reason", "a test")
    box.wait(lambda: said(box) == "sent,sent", "the network to be joined again")


def test_a_confined_child_has_its_walls(box: SystemdBox) -> None:
    """Whatever holds it: its network and its processes are its own."""
    box.wait(lambda: box.subsystem("walled").get("state") == "running", "the confined child to run")
    pid = box.subsystem("walled")["pid"]
    for kind in ("net", "mnt", "pid_for_children"):
        inside = box.run("readlink", f"/proc/{pid}/ns/{kind}")
        assert inside != box.run("readlink", f"/proc/1/ns/{kind}"), kind
    assert "epad-cell: walled" in box.run("cat", f"/proc/{pid}/cmdline")
    units = box.run("systemctl", "list-units", "--no-legend", "--plain", "epad*walled.service").split()
    assert units, "it is no unit"
    assert box.property(units[0], "MainPID") == str(pid)


def test_a_child_of_another_user_is_that_user_and_stays_it(box: SystemdBox) -> None:
    """Its unit runs as the user, with that user's groups and variables; the next daemon takes it over."""
    who = box.root / "srv/other/who"
    box.wait(who.exists, "its start")
    name, groups, variables = who.read_text().splitlines()
    assert name == "nobody"
    assert "0" not in groups.split()
    assert variables == "/nonexistent nobody"
    box.wait(lambda: box.subsystem("other").get("state") == "running", "it to run")
    pid = box.subsystem("other")["pid"]
    assert box.property("epad-other.service", "User") == "nobody"
    box.run("systemctl", "kill", "-s", "KILL", "epad-root")
    box.wait(lambda: box.property("epad-root", "ActiveState") != "active", "the daemon's end")
    start(box)
    box.wait(lambda: box.subsystem("other").get("pid") == pid, "the adoption")


def test_a_confined_child_that_ends_at_once_is_heard(box: SystemdBox) -> None:
    """Though it has ended before systemd could be told of it."""
    brief = '[subsystems.brief]\ncommand = ["sh", "-c", "exit 7"]\n[subsystems.brief.confine]\n'
    start(box, ("[subsystems.model]\n", f"{brief}[subsystems.model]\n"))
    box.wait(lambda: "subsystem=brief status=exit 7" in box.journal(), "its status")
    start(box)


def test_a_later_daemon_makes_the_doors_of_a_cell_anew(box: SystemdBox) -> None:
    """By a unit that joins its network: the daemon may not be allowed to."""
    box.wait(lambda: _listens(box), "the door")
    pid = box.subsystem("walled")["pid"]
    box.run("systemctl", "kill", "-s", "KILL", "epad-root")
    box.wait(lambda: box.property("epad-root", "ActiveState") != "active", "the daemon's end")
    assert not _listens(box, pid)
    start(box)
    box.wait(lambda: box.subsystem("walled").get("pid") == pid, "the adoption")
    box.wait(lambda: _listens(box), "the door again")


def _listens(box: SystemdBox, pid: int = 0) -> bool:
    """Tell whether somebody listens at the gateway's door inside the cell."""
    inside = pid or box.subsystem("walled").get("pid")
    return bool(inside) and ":2207 00000000:0000 0A" in box.run("cat", f"/proc/{inside}/net/tcp")


def test_a_unit_is_started_frozen_thawed_and_left(box: SystemdBox) -> None:
    """Epad starts what is down, freezes it by D-Bus, thaws it, and leaves it running when it goes."""
    start(box, ('operator = "block"', 'operator = "freeze"'))
    box.wait(lambda: box.property("model", "ActiveState") == "active", "the unit to be started")
    pid = box.property("model", "MainPID")
    box.wait(lambda: str(box.subsystem("model").get("pid")) == pid, "its pid to be known")
    box.epactl("quarantine", "model", "--reason", "a test")
    box.wait(lambda: box.property("model", "FreezerState") == "frozen", "the freeze")
    assert box.subsystem("model")["state"] == "quarantined"
    box.epactl("release", "model", "--reason", "a test")
    box.wait(lambda: box.property("model", "FreezerState") == "running", "the thaw")
    box.run("systemctl", "stop", "epad-root")
    assert box.property("model", "MainPID") == pid


def test_a_unit_that_fails_its_check_is_hung(box: SystemdBox) -> None:
    """Whatever systemd says of it; well again as soon as it answers. Its words are in the journal."""
    start(box, ('operator = "block"', 'operator = "freeze"'))
    box.wait(lambda: box.subsystem("model").get("state") == "running", "the unit to run")
    box.run("mkdir", "-p", "/srv")
    box.write("/srv/unwell", "")
    box.wait(lambda: box.subsystem("model")["state"] == "hung", "the checks to fail")
    assert "health checks failed: " in box.subsystem("model")["status"]
    box.run("rm", "/srv/unwell")
    box.wait(lambda: box.subsystem("model")["state"] == "running", "a check to pass")
    said = box.run("sh", "-c", f"{BIN / 'epactl'} --socket /run/epad/control.sock logs model 2>&1 || true")
    assert "journalctl -u model.service" in said


def test_a_unit_is_added_and_left_by_a_reload(box: SystemdBox) -> None:
    """What a file no longer names is let go as it is; what is new in it is started."""
    start(box)
    box.wait(lambda: bool(box.subsystem("model").get("pid")), "the unit to run")
    pid = box.property("model", "MainPID")
    box.write("/etc/epad-root.toml", CONFIG.replace("subsystems.model", "subsystems.new"))
    answer = box.epactl("reload")
    assert not answer["failed"], answer
    assert {"added: new", "removed: model"} <= set(answer["results"])
    assert (str(box.subsystem("new")["pid"]), box.subsystem("model")) == (pid, {})
    assert box.property("model", "MainPID") == pid


def test_a_unit_with_a_watchdog_is_stopped_instead_of_frozen(box: SystemdBox) -> None:
    """Before systemd 258 its watchdog would kill and restart it, unfrozen; the reason is said."""
    if int(box.run("systemctl", "--version").split()[1]) >= 258:
        pytest.skip("this systemd stops the watchdog of a frozen unit")
    start(box, ('operator = "block"', 'operator = "freeze"'))
    box.wait(lambda: box.property("watched", "ActiveState") == "active", "the unit to be started")
    box.epactl("quarantine", "watched", "--reason", "a test")
    box.wait(lambda: box.property("watched", "ActiveState") == "inactive", "the stop")
    box.wait(lambda: "systemd#38517" in box.subsystem("watched")["status"], "the reason")
    box.epactl("release", "watched", "--reason", "a test")
    box.wait(lambda: box.property("watched", "ActiveState") == "active", "the start after the release")


def test_with_the_daemon_dead_a_units_whole_group_is_ended(box: SystemdBox) -> None:
    """What was moved into it, and has no mark nor kin among us, too; units that are not epad's own run on."""
    start(box)
    box.wait(lambda: bool(box.subsystem("talker").get("pid")), "the talker to run")
    box.wait(lambda: bool(box.subsystem("walled").get("pid")), "the confined child to run")
    box.wait(lambda: box.property("model", "ActiveState") == "active", "the unit to be started")
    group = box.property("epad-talker.service", "ControlGroup")
    mounted = next(
        line.split()[1] for line in box.run("cat", "/proc/mounts").splitlines() if " cgroup2 " in line
    )
    script = f"env -i setsid sleep 4141 </dev/null >/dev/null 2>&1 & echo $! > {mounted}{group}/cgroup.procs"
    box.run("sh", "-c", script)
    box.wait(lambda: box.processes("sleep", "4141") != set(), "the stranger in the group")
    box.run("systemctl", "kill", "--kill-who=main", "-s", "KILL", "epad-root")
    box.wait(lambda: box.property("epad-root", "MainPID") in {"", "0"}, "the daemon's end")
    assert box.processes("talker.py")
    stop = (BIN / "epactl", "-o", "json", "stop-all", "--yes", "--state", "/var/lib/epad")
    answer = json.loads(box.run(*stop))
    assert (answer["journal"], answer["left"], len(answer["ended"])) == ("read", [], 5)
    assert box.processes("talker.py") | box.processes("sleep", "4141") == set()
    assert box.property("model", "ActiveState") == "active"
