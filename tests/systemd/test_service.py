"""epad as a service of a real systemd: installed, restarted, hung, frozen and stopped, its children beside it."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from systemd_box import BIN, ROOT, SystemdBox, systemd_box

from epad.runtime.environment_marks import STATE_MARK, SUBSYSTEM_MARK
from epad.supervisor.stamp import bears, read_stamp

CONFIG = """
[gateway]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[subsystems.steady]
command = ["sleep", "98765"]
[subsystems.family]
command = ["sh", "-c", "setsid sleep 98764 & (setsid env -i sleep 98763 &) ; exec sleep 98762"]
[subsystems.brief]
command = ["sh", "-c", "while [ ! -e end ]; do sleep 0.05; done; exit 7"]
restart = { policy = "never" }
[subsystems.walled]
command = ["sleep", "98760"]
[subsystems.walled.confine]
profile = "workspace"
[subsystems.talker]
command = ["sh", "-c", "n=0; while sleep 0.05; do n=$((n+1)); echo $n; done"]
[subsystems.flood]
command = ["sh", "-c", "sleep 1; exec yes"]
log = { max_bytes = 65536, keep = 1 }
[subsystems.odd]
command = ["python3", "odd.py", "$HOME %h \\"${X}\\""]
working_directory = "/srv/odd"
environment = { ODD = "a \\"b\\" 'c' $d `e` \\\\f #g\\n ;h\\t=%i" }
restart = { policy = "never" }
"""
ADDED = """
[subsystems.added]
command = ["sleep", "98761"]
[subsystems.steady.budget]
tokens_per_minute = 500
"""
ODD = "import json, os, sys; json.dump([sys.argv[1], os.environ['ODD']], open('/var/lib/epad/odd', 'w'))"
SLEEPS = ("98765", "98764", "98763", "98762")
# The installed 20 s would make the test of a hang as long; less than 5, and a loaded machine is a hang as well.
QUICK_WATCHDOG = "[Service]\nWatchdogSec=5s\nTimeoutAbortSec=1s\nRestartSec=100ms\n"


@pytest.fixture(scope="module")
def box() -> Iterator[SystemdBox]:
    """A box with epad installed by `epad install`."""
    with systemd_box(f"epad-{os.getpid()}") as box:
        box.let_everybody_reach(BIN / "python")
        box.let_everybody_reach(ROOT / "epad")
        box.write("/etc/epad/epad.toml", CONFIG)
        box.write("/srv/odd/odd.py", ODD)
        box.write("/etc/systemd/system/epad.service.d/90-test.conf", QUICK_WATCHDOG)
        box.before = installed(box)
        box.said = box.run(BIN / "epad", "install", "--now")
        box.wait(lambda: all(box.processes("sleep", n) for n in SLEEPS), "the children to run")
        yield box


def installed(box: SystemdBox) -> set[str]:
    """Every file where `epad install` may write."""
    places = (
        "/etc/systemd",
        "/etc/sysusers.d",
        "/etc/tmpfiles.d",
        "/etc/epad",
        "/usr/local/share/man",
        "/etc/polkit-1",
    )
    found = box.run("find", *places, "/var/lib/systemd/linger", "-not", "-type", "d", check=False)
    return set(found.split())


def daemon(box: SystemdBox) -> str:
    return box.property("epad", "MainPID")


def sleepers(box: SystemdBox) -> list[set[int]]:
    return [box.processes("sleep", number) for number in SLEEPS]


def cgroup(box: SystemdBox, pid: int) -> Path:
    """Where a process of the box is, as seen from outside."""
    path = box.run("cat", f"/proc/{pid}/cgroup").splitlines()[-1].removeprefix("0::/")
    return box.root / "sys/fs/cgroup" / path


def back(box: SystemdBox, old: str) -> bool:
    """Whether another daemon than `old` is ready."""
    return box.property("epad", "SubState") == "running" and daemon(box) not in {"0", old}


def test_it_is_installed_by_one_command_and_says_its_phase(box: SystemdBox) -> None:
    """`systemctl start` returned after READY=1; STATUS= is the phase; children are units of user epad."""
    assert box.property("epad", "ActiveState") == "active"
    box.wait(lambda: box.property("epad", "StatusText").startswith("NORMAL"), "the phase in the status")
    assert "systemd: transient units epad-NAME.service" in box.epactl("status")["engine"]
    pid = box.subsystem("steady")["pid"]
    assert cgroup(box, pid).name == "epad-steady.service"
    status = box.run("cat", f"/proc/{pid}/status")
    assert "NoNewPrivs:\t0" in status
    assert "Seccomp:\t0" in status


def test_install_told_what_it_did_and_again_changes_nothing(box: SystemdBox) -> None:
    """Each file it wrote is on a line of its own; the second time all are the same, and the daemon lives on."""
    told = {line.split()[1] for line in box.said.splitlines() if line.startswith("write ")}
    made = installed(box) - box.before
    links = {path for path in made if "/multi-user.target.wants/" in path}
    assert made - links == told
    assert "next    epactl status" in box.said
    old = daemon(box)
    again = box.run(BIN / "epad", "install")
    assert not [line for line in again.splitlines() if line.startswith("write")]
    assert daemon(box) == old


def test_words_reach_a_child_as_they_were_written(box: SystemdBox) -> None:
    """Nothing is put in place of variables, specifiers, quotes or line breaks."""
    file = box.root / "var/lib/epad/odd"
    box.wait(lambda: file.exists() and file.read_text() != "", "the child to have run")
    assert json.loads(file.read_text()) == ['$HOME %h "${X}"', "a \"b\" 'c' $d `e` \\f #g\n ;h\t=%i"]


def test_a_killed_daemon_is_restarted_and_adopts(box: SystemdBox) -> None:
    """Same pids, none doubled; the exit of one that ended while no daemon ran is known, status and all."""
    before, old = sleepers(box), daemon(box)
    brief = box.subsystem("brief")["pid"]
    assert brief
    # Held for a moment between death and restart, so that a child can end unseen.
    box.write("/run/systemd/system/epad.service.d/91-test.conf", "[Service]\nRestartSec=3s\n")
    box.run("systemctl", "daemon-reload")
    box.run("kill", "-KILL", old)
    box.wait(lambda: box.property("epad", "SubState") == "auto-restart", "systemd to notice")
    box.run("touch", "/var/lib/epad/subsystems/brief/end")
    box.wait(lambda: back(box, old), "systemd to restart the daemon")
    box.wait(lambda: box.subsystem("brief").get("state") == "stopped", "the unseen exit to be known")
    assert box.subsystem("brief")["status"] == "exit 7"
    assert sleepers(box) == before
    assert all(len(pids) == 1 for pids in before)


def test_a_confined_child_has_every_wall_and_its_doors_again(box: SystemdBox) -> None:
    """Its cell is a unit of user epad's manager: the daemon's own unit may make no namespace."""
    box.wait(lambda: listens(box, box.subsystem("walled").get("pid")), "its door")
    pid, old = box.subsystem("walled")["pid"], daemon(box)
    assert "cell.made subsystem=walled" in box.journal()
    assert "missing={}" in next(line for line in box.journal().splitlines() if "cell.made" in line)
    box.run("kill", "-KILL", old)
    box.wait(lambda: back(box, old), "systemd to restart the daemon")
    box.wait(lambda: box.subsystem("walled").get("pid") == pid, "the adoption")
    box.wait(lambda: listens(box, pid), "its door again")


def listens(box: SystemdBox, pid: int | None) -> bool:
    """Tell whether somebody listens at the gateway's door in the network of a process."""
    return bool(pid) and ":2207 00000000:0000 0A" in box.run("cat", f"/proc/{pid}/net/tcp")


def said(box: SystemdBox) -> int:
    """How far the talker's log has come; the numbers in it rise."""
    numbers = [int(line) for line in (box.root / "var/lib/epad/logs/talker.log").read_text().split("\n")[:-1]]
    assert numbers == sorted(set(numbers))
    return numbers[-1]


def test_children_are_heard_whoever_ends(box: SystemdBox) -> None:
    """The daemon is killed, its pump with it; the unit prints on into the same pipe, and the next pump reads it."""
    pid, old, before = box.subsystem("talker")["pid"], daemon(box), said(box)
    box.wait(lambda: said(box) > before, "a line")
    assert (box.root / f"proc/{pid}/fd/1").readlink().name == "talker.pipe"
    box.run("kill", "-KILL", old)
    box.wait(lambda: back(box, old), "systemd to restart the daemon")
    before = said(box)
    box.wait(lambda: said(box) > before + 5, "lines through the next pump")
    assert box.subsystem("talker")["pid"] == pid
    files = [box.root / "var/lib/epad/logs" / name for name in ("flood.log", "flood.log.1")]
    for _ in range(100):
        with suppress(FileNotFoundError):  # in the middle of a rotation
            assert max(file.stat().st_blocks * 512 for file in files) <= 81_920
    box.wait(files[1].exists, "a rotation")
    limits = (box.root / f"proc/{pid}/limits").read_text()
    assert bears(read_stamp(limits), {STATE_MARK: "/var/lib/epad", SUBSYSTEM_MARK: "talker"})


def test_a_hung_daemon_is_ended_by_the_watchdog(box: SystemdBox) -> None:
    """A daemon that stands still is killed and started again; its children have noticed nothing."""
    before, old = sleepers(box), daemon(box)
    box.run("kill", f"-{signal.SIGSTOP.name[3:]}", old)
    box.wait(lambda: back(box, old), "the watchdog")
    box.wait(lambda: bool(box.subsystem("steady").get("pid")), "the children to be adopted")
    assert sleepers(box) == before
    assert "atchdog" in box.run("journalctl", "-u", "epad", "--no-pager", "-o", "cat")


@pytest.mark.parametrize(
    "how",
    [
        ("systemctl", "restart", "epad"),
        (BIN / "epad", "install", "--now"),
        (BIN / "epactl", "upgrade", "--reason", "x"),
    ],
)
def test_an_upgrade_ends_no_child(box: SystemdBox, how: tuple[str | Path, ...]) -> None:
    """A restart by systemd, an installation, the daemon's own: the children keep their process numbers."""
    before, old = sleepers(box), daemon(box)
    box.run(*how)
    box.wait(lambda: bool(box.subsystem("steady").get("pid")), "the children to be adopted")
    assert sleepers(box) == before
    assert (daemon(box) == old) == ("upgrade" in how), box.journal()
    assert box.property("epad", "ActiveState") == "active"
    assert box.property("epad", "SubState") == "running"


def test_a_killed_daemon_leaves_its_door_to_the_next(box: SystemdBox) -> None:
    """Systemd keeps the gateway's socket: who connects while there is no daemon waits for the next one's answer."""
    old = daemon(box)
    url = box.epactl("status")["gateway"]["url"]
    box.write("/run/systemd/system/epad.service.d/91-test.conf", "[Service]\nRestartSec=2s\n")
    box.run("systemctl", "daemon-reload")
    box.run("kill", "-KILL", old)
    box.wait(lambda: box.property("epad", "SubState") == "auto-restart", "systemd to notice")
    asked = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=60).status)"
    assert box.run(BIN / "python", "-c", asked, url).strip() == "200"
    box.wait(lambda: back(box, old), "the next daemon to say that it is ready")


def test_a_reload_applies_what_has_changed_and_interrupts_nothing(box: SystemdBox) -> None:
    """`systemctl reload` returns once it is in force; the daemon lives on with its children."""
    before, old = sleepers(box), daemon(box)
    box.write("/etc/epad/epad.toml", CONFIG + ADDED)
    box.run("systemctl", "reload", "epad")
    assert box.subsystem("added")["state"] == "running"
    assert box.subsystem("steady")["budget"]["tokens_per_minute"]["limit"] == 500
    assert (sleepers(box), daemon(box)) == (before, old)


def test_a_reload_of_a_broken_file_fails_with_its_reason(box: SystemdBox) -> None:
    """The exit status is not 0, `systemctl status` names file, line and key, and all goes on as before."""
    before, old = sleepers(box), daemon(box)
    box.write("/etc/epad/epad.toml", CONFIG + "[probes.cascade]\ncrashes = 1000\n")
    assert box.status("systemctl", "reload", "epad") != 0
    said = box.run("systemctl", "status", "--no-pager", "epad", check=False)
    assert "epad.toml:" in said
    assert "probes.cascade.crashes: is 1000; give a whole number from 1" in said
    assert box.property("epad", "ActiveState") == "active"
    assert (sleepers(box), daemon(box)) == (before, old)
    box.write("/etc/epad/epad.toml", CONFIG)
    box.run("systemctl", "reload", "epad")


def test_a_child_unit_is_frozen_and_thawed(box: SystemdBox) -> None:
    """Through its cgroup, grandchildren included, and a restart of the daemon in between changes nothing."""
    pid = box.subsystem("family")["pid"]
    unit = cgroup(box, pid)
    box.epactl("quarantine", "family", "--reason", "a test")
    box.wait(lambda: "frozen 1" in (unit / "cgroup.events").read_text(), "the freeze")
    old = daemon(box)
    box.run("kill", "-KILL", old)
    box.wait(lambda: back(box, old), "the restart")
    box.wait(lambda: box.subsystem("family").get("state") == "quarantined", "the quarantine to be known")
    assert "frozen 1" in (unit / "cgroup.events").read_text()
    box.epactl("release", "family", "--reason", "a test")
    box.wait(lambda: "frozen 0" in (unit / "cgroup.events").read_text(), "the thaw")


def test_systemd_accepts_what_is_installed(box: SystemdBox) -> None:
    """`systemd-analyze verify` is silent about the unit with its drop-ins; the exposure is at most 2.6."""
    box.run("systemd-analyze", "verify", "--man=no", "epad.service")
    said = box.run("systemd-analyze", "security", "--no-pager", "epad.service")
    found = re.search(r"exposure level for epad\.service: ([\d.]+)", said)
    assert found, said
    assert float(found[1]) <= 2.6


def test_stop_leaves_nothing(box: SystemdBox) -> None:
    """Children, sessions of their own and the daemonised without an environment: all of them end, and the units."""
    box.run("systemctl", "stop", "epad")
    assert sleepers(box) == [set()] * 4
    user = box.run("id", "-u", "epad").strip()
    command = ("runuser", "-u", "epad", "--", "env", f"XDG_RUNTIME_DIR=/run/user/{user}")
    assert "service" not in box.run(
        *command, "systemctl", "--user", "--all", "--plain", "--no-legend", "list-units", "epad-*"
    )


def test_uninstall_removes_exactly_what_install_wrote(box: SystemdBox) -> None:
    """Nothing of it is left but the configuration; state, ledger and user are still there."""
    said = box.run(BIN / "epad", "uninstall")
    assert installed(box) - box.before == set()
    assert box.property("epad", "LoadState") == "not-found"
    assert "keep    /var/lib/epad" in said
    assert (box.root / "var/lib/epad/ledger.db").exists()
    assert box.run("id", "-u", "epad").strip().isdecimal()
