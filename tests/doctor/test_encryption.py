"""Whether the disk is encrypted, by recorded trees of /sys and recorded answers of Windows."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from epad.doctor.encryption import check_encryption, check_sealing
from epad.doctor.finding import Check, Verdict

LUKS = "CRYPT-LUKS2-8f2d41c5b3f94a6a9d0b7e1d2c3b4a59-root"


class Machine:
    """A root directory with what /proc and /sys tell of its disks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.state.mkdir()
        self.release("6.18.0-generic")

    def release(self, text: str) -> None:
        self._write("proc/sys/kernel/osrelease", text)

    def mounted(self, number: str, source: str = "/dev/x") -> None:
        """The state's file system is this device's; others are mounted above and beside it."""
        lines = ["20 1 9:9 / / rw - ext4 /dev/other rw", f"21 20 {number} / {self.state} rw - ext4 {source} rw",
                 f"22 20 9:9 / {self.state}-beside rw - ext4 /dev/other rw"]  # fmt: skip
        self._write("proc/self/mountinfo", "\n".join(lines))

    def block(self, name: str, number: str, *below: str, uuid: str = "") -> None:
        """A block device, with those that it lies on."""
        place = self.root / "sys/class/block" / name
        (place / "slaves").mkdir(parents=True)
        for other in below:
            (place / "slaves" / other).symlink_to(self.root / "sys/class/block" / other)
        if uuid:
            self._write(f"sys/class/block/{name}/dm/uuid", f"{uuid}\n")
        numbers = self.root / "sys/dev/block"
        numbers.mkdir(parents=True, exist_ok=True)
        (numbers / number).symlink_to(place)

    def told(self, ask: Callable[[Sequence[str]], str] = lambda _: "") -> Check:
        [check] = check_encryption(self.state, self.root, ask)
        return check

    def _write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_plain_partition_is_not_encrypted(machine: Machine) -> None:
    machine.mounted("259:2")
    machine.block("nvme0n1p2", "259:2")
    check = machine.told()
    assert (check.verdict, "nvme0n1p2" in check.found, "luksFormat" in check.fix) == (
        Verdict.LACKING,
        True,
        True,
    )


def test_luks_below_the_file_system_is_found(machine: Machine) -> None:
    """Also through LVM, as Debian's and Fedora's installers make it."""
    machine.mounted("253:1")
    machine.block("nvme0n1p3", "259:3")
    machine.block("dm-0", "253:0", "nvme0n1p3", uuid=LUKS)
    machine.block("dm-1", "253:1", "dm-0", uuid="LVM-abc")
    check = machine.told()
    assert (check.verdict, "LUKS2" in check.found) == (Verdict.OK, True)


def test_one_plain_disk_of_two_is_told(machine: Machine) -> None:
    """A RAID or a volume over both is as open as the one."""
    machine.mounted("9:0")
    machine.block("sda1", "8:1")
    machine.block("sdb1", "8:17")
    machine.block("dm-0", "253:0", "sda1", uuid=LUKS)
    machine.block("md0", "9:0", "dm-0", "sdb1")
    check = machine.told()
    assert (check.verdict, "sdb1" in check.found) == (Verdict.LACKING, True)


@pytest.mark.parametrize("number", ["0:57", "7:7"])
def test_what_lies_on_no_disk_is_said(machine: Machine, number: str) -> None:
    """Memory, a network, or a container that shows no devices."""
    machine.mounted(number, "tmpfs")
    assert machine.told().verdict is Verdict.ABSENT


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("1", Verdict.OK),
        ("2", Verdict.LACKING),
        ("6", Verdict.LACKING),
        ("", Verdict.ABSENT),
        ("no!", Verdict.ABSENT),
    ],
)
def test_windows_is_asked_under_wsl(machine: Machine, answer: str, verdict: Verdict) -> None:
    """The virtual disk of Linux is a file there: its own devices tell nothing."""
    machine.release("6.6.87.2-microsoft-standard-WSL2")
    machine.mounted("8:32")
    machine.block("sdc", "8:32")
    asked: list[Sequence[str]] = []

    def ask(words: Sequence[str]) -> str:
        asked.append(words)
        return answer

    assert machine.told(ask).verdict is verdict
    assert asked[0][0] == "powershell.exe"
    assert "BitLockerProtection" in asked[0][-1]


@pytest.mark.parametrize("error", [FileNotFoundError(), subprocess.TimeoutExpired("powershell.exe", 20)])
def test_wsl_without_a_way_to_windows_says_so(machine: Machine, error: Exception) -> None:
    """Interop may be off, and then there is one line."""
    machine.release("5.15.0-microsoft-standard-WSL2")

    def ask(_: Sequence[str]) -> str:
        raise error

    check = machine.told(ask)
    assert (check.verdict, "cannot be asked" in check.found) == (Verdict.ABSENT, True)


def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    """Whatever it has, there is one line, and sealing is another; no host key is made by it."""
    [encryption] = check_encryption(tmp_path)
    environment = {"PATH": os.environ["PATH"], "SYSTEMD_CREDENTIAL_SECRET": str(tmp_path / "host.key")}
    [sealing] = check_sealing(tmp_path, environment)
    assert (encryption.name, sealing.name) == ("encryption", "secrets")
    assert not (tmp_path / "host.key").exists()
    [nothing] = check_sealing(tmp_path, {"PATH": "/nowhere"})
    assert "systemd-creds is not installed" in nothing.found
