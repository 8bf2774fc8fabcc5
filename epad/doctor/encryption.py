"""Tell whether the disk under the state directory is encrypted, and what can seal secrets here.

A file system's device is followed down `/sys`, through partitions, LVM and RAID, to a `dm-crypt` mapping or to a disk.
Under WSL2 all of that lies in a file on a disk of Windows, which Windows alone can tell of.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from epad.doctor.disk import existing
from epad.doctor.finding import Check, Verdict
from epad.secrets.sealing import sealers_of

_CRYPT: Final = "CRYPT-"
"""What `dm/uuid` of a dm-crypt mapping begins with: CRYPT-LUKS2-..., CRYPT-PLAIN-..."""
_SECONDS: Final = 20.0
_PROTECTED: Final = "1"
_POWERSHELL: Final = (
    "powershell.exe",
    "/mnt/c/Windows/System32/WindowsPowerShell/v1.0/powershell.exe",
)
# What Explorer shows of a drive, which needs no administrator: 1, 3 and 5 are protected or about to be.
_ASK_WINDOWS: Final = (
    "(New-Object -ComObject Shell.Application).NameSpace($env:SystemDrive)"
    ".Self.ExtendedProperty('System.Volume.BitLockerProtection')"
)
_FIX: Final = "encrypt it (cryptsetup luksFormat), and enrol the TPM: systemd-cryptenroll --tpm2-device=auto"
_FIX_WINDOWS: Final = "turn BitLocker on for the drive of Windows (Settings, Device encryption)"

Ask = Callable[[Sequence[str]], str]


def ask_windows(words: Sequence[str]) -> str:
    """Run a program of Windows; return what it printed. Raises OSError, SubprocessError."""
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=_SECONDS, check=True, stdin=subprocess.DEVNULL, cwd="/"
    )
    return done.stdout.strip()


def check_encryption(state: Path, root: Path = Path("/"), ask: Ask = ask_windows) -> Iterator[Check]:
    """Look at the disk of the state directory."""
    place = existing(state)
    if "microsoft" in _text(root / "proc/sys/kernel/osrelease").lower():
        yield _windows(ask)
        return
    device = _device_of(place, _text(root / "proc/self/mountinfo"))
    kinds = set(_below(root / "sys/dev/block" / device, root)) if device else set()
    if not kinds:
        found = f"nothing tells of what {place} lies on: a container, a network, or memory"
        yield Check("encryption", Verdict.ABSENT, found)
    elif all(kind.startswith(_CRYPT) for kind in kinds):
        names = ", ".join(sorted({"-".join(kind.split("-")[:2])[len(_CRYPT) :] for kind in kinds}))
        yield Check("encryption", Verdict.OK, f"the disk under {place} is encrypted: dm-crypt, {names}")
    else:
        disks = ", ".join(sorted(kind for kind in kinds if not kind.startswith(_CRYPT)))
        found = f"{disks} under {place} is not encrypted, as far as Linux sees"
        yield Check("encryption", Verdict.LACKING, found, _FIX)


def check_sealing(state: Path, environment: Mapping[str, str]) -> Iterator[Check]:
    """Say what seals secrets here, and what each way lacks. Nothing is asked that has a side effect."""
    ways = sealers_of(state / "secrets", environment).missing()
    able = [way for way, lacks in ways.items() if not lacks]
    lacking = "; ".join(f"{way}: {lacks}" for way, lacks in ways.items() if lacks)
    if able:
        rest = f" ({lacking})" if lacking else ""
        yield Check("secrets", Verdict.OK, f"sealed by {able[0]}{rest}")
    else:
        yield Check("secrets", Verdict.ABSENT, f"nothing can seal them: {lacking}", "docs/secrets.md")


def _windows(ask: Ask) -> Check:
    for program in _POWERSHELL:
        try:
            told = ask((program, "-NoProfile", "-NonInteractive", "-Command", _ASK_WINDOWS))
        except (OSError, subprocess.SubprocessError):
            continue
        if told == _PROTECTED:
            return Check("encryption", Verdict.OK, "the drive of Windows is encrypted: BitLocker")
        if re.fullmatch(r"\d", told):
            found = f"the drive of Windows is not protected by BitLocker (state {told})"
            return Check("encryption", Verdict.LACKING, found, _FIX_WINDOWS)
    found = "this is WSL, and Windows cannot be asked from here whether BitLocker is on"
    return Check("encryption", Verdict.ABSENT, found, "manage-bde -status, in Windows")


def _device_of(place: Path, mounts: str) -> str:
    """Return the number of the device that a path lies on, as MAJOR:MINOR; empty if it is no block device's.

    Of btrfs stat gives a number of its own, so it is the mount's source that is looked up.
    """
    best, found = -1, ""
    for line in mounts.splitlines():
        fields, _, source = line.partition(" - ")
        _, _, number, _, at, *_ = fields.split()
        mounted = at.encode().decode("unicode_escape")
        if (place == Path(mounted) or Path(mounted) in place.parents) and len(mounted) >= best:
            best, found = len(mounted), _number(number, source.split()[1])
    return found


def _number(number: str, source: str) -> str:
    if not number.startswith("0:"):
        return number
    try:
        device = Path(source).stat().st_rdev if source.startswith("/dev/") else 0
    except OSError:
        return ""
    return f"{os.major(device)}:{os.minor(device)}" if device else ""


def _below(block: Path, root: Path) -> Iterator[str]:
    """Yield for each disk below a block device its name, or the kind of the encryption on the way to it."""
    kind = _text(block / "dm/uuid")
    if kind.startswith(_CRYPT):
        yield kind
        return
    try:
        slaves = sorted((block / "slaves").iterdir())
    except OSError:
        slaves = []
    for slave in slaves:
        yield from _below(root / "sys/class/block" / slave.name, root)
    if not slaves and block.exists():
        yield block.resolve().name


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
