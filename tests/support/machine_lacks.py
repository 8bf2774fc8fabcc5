"""What a machine may lack that some test needs, each tried as that test needs it.

A thing is a word and what it applies to: `root`, `program promtool`, `module trl`, `variable EPAD_REAL_MODEL`.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import mcp_programs
import software_tpm
from learned_agents import can_record

from epad.supervisor.cgroup import NoCgroupError, delegated
from epad.supervisor.systemd_bus import find_bus


@functools.cache
def is_lacking(thing: str) -> bool:
    """Tell whether this machine lacks a thing, or any of several of one word. Raises KeyError for an unknown word."""
    word, _, names = thing.partition(" ")
    if word in ABOUT_NAMES:
        return any(ABOUT_NAMES[word](name) for name in re.split(r", | and no | or no | ", names) if name)
    return THINGS[thing]()


def is_known(thing: str) -> bool:
    """Whether `is_lacking` can tell."""
    word, _, names = thing.partition(" ")
    return bool(names) if word in ABOUT_NAMES else thing in THINGS


def _fails(command: Sequence[str | Path]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return True
    return done.returncode != 0


def _root() -> bool:
    return os.geteuid() != 0


def _mounts() -> bool:
    with tempfile.TemporaryDirectory() as place:
        if _fails(["mount", "-t", "tmpfs", "none", place]):
            return True
        subprocess.run(["umount", "-l", place], check=False)
        return False


def _user_namespaces() -> bool:
    with tempfile.TemporaryDirectory() as place:
        return _fails(["unshare", "-Urm", "mount", "-t", "tmpfs", "none", place])


BOX = """
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/merged" "$1/groups"
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/merged"
mount -t cgroup2 none "$1/groups"
test -x /lib/systemd/systemd
test -x /usr/bin/dbus-daemon
"""


def _boxes() -> bool:
    """Namespaces, an overlay of /, a control group to divide, and systemd: what `systemd_box.sh` builds on."""
    base = Path("/sys/fs/cgroup")
    base = base if (base / "cgroup.controllers").exists() else base / "unified"
    group = base / f"epad-probe-{os.getpid()}"
    namespaces = [
        "unshare",
        *(f"--{kind}" for kind in ("mount", "pid", "uts", "ipc", "net", "cgroup")),
        "--fork",
    ]
    try:
        group.mkdir()
    except OSError:
        return True
    try:
        with tempfile.TemporaryDirectory() as place:
            return _fails([*namespaces, "bash", "-c", BOX, "box", place])
    finally:
        group.rmdir()


def _control_groups() -> bool:
    try:
        delegated(managed=Path("/run/systemd/system").is_dir())
    except NoCgroupError:
        return True
    return False


def _ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return True
    return False


def _package_index() -> bool:
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/openai/", timeout=20) as answer:
            return bool(answer.status != 200)
    except (OSError, ValueError):
        return True


def _absence_of_a_gpu() -> bool:
    return not _fails([sys.executable, "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"])


def _systemd_version() -> int:
    try:
        said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return 0
    found = re.match(r"systemd (\d+)", said)
    return int(found[1]) if found else 0


def _readable_python() -> bool:
    """A Python that somebody else can start: of root alone, whom setpriv lets become anybody."""
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    return _fails([*(nobody if os.geteuid() == 0 else []), sys.executable, "-c", "import epad.epactl.main"])


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name.split(".", maxsplit=1)[0]) is not None


def _own_network() -> bool:
    """A namespace with a pair of linked interfaces, which its own root may read."""
    rights = ["--net", "--mount"] if not _root() else ["--net", "--mount", "--user", "--map-root-user"]
    return _fails(["unshare", *rights, "ip", "link", "add", "way", "type", "veth", "peer", "name", "reader"])


THINGS: Mapping[str, Callable[[], bool]] = {
    "root": _root,
    "another user than root": lambda: not _root(),
    "mounts": _mounts,
    "user namespaces": _user_namespaces,
    "boxes": _boxes,
    "a network of its own": _own_network,
    "control groups": _control_groups,
    "a checkout outside of /tmp": lambda: Path(__file__).resolve().is_relative_to("/tmp"),
    "Linux": lambda: sys.platform != "linux",
    "IPv6": _ipv6,
    "the package index": _package_index,
    "no GPU": _absence_of_a_gpu,
    "no manager": lambda: find_bus(os.environ, os.geteuid()) is not None,
    "a systemd before 258": lambda: _systemd_version() >= 258,
    "a systemd-analyze with --offline": lambda: _systemd_version() < 250,
    "a Python that others can start": _readable_python,
    "strace": lambda: not can_record(),
    "the MCP programs of npm": lambda: not mcp_programs.NODE.exists(),
    "a software TPM": lambda: not software_tpm.can_be_had(),
    "sense": lambda: True,
}
"""Beside what is tried: `sense`, which a combination of parameters lacks everywhere."""

ABOUT_NAMES: Mapping[str, Callable[[str], bool]] = {
    "program": lambda name: shutil.which(name) is None,
    "module": lambda name: not _has_module(name),
    "absence-of-module": _has_module,
    "variable": lambda name: not os.environ.get(name),
}
