"""A neighbourhood for cells: files, processes and sockets of the same user outside, to be out of reach from inside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import cell_world
from cell_world import UID, Mode

from runners.cell.plan import CellPlan

PYTHON: Final = "/usr/bin/python3"
SECRET: Final = "sk-neighbour-3f1c"
ESCAPES: Final = Path(__file__).parent / "escapes"
KEY: Final = 0x65706164
_OWNED: Final = (
    "secret",
    "scratch",
    "doomed",
    "moved",
    ".ssh/id_ed25519",
    ".aws/credentials",
    ".bashrc",
    "x",
)
_IPC: Final = ("ipcrm", "-M", hex(KEY), "-Q", hex(KEY), "-S", hex(KEY))


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Knows the places, and the facts that the escapes go by."""

    workspace: Path
    outside: Path
    facts: dict[str, Any]

    def plan(self, mode: Mode, command: Sequence[str]) -> CellPlan:
        """Return the plan of the workspace's cell, with a root that is read and one place in it hidden."""
        ordered = cell_world.plan(self.workspace, command, mode)
        readable = self.facts["readable"]
        names = (".git/hooks/", ".git/config", ".envrc", ".vscode/")
        tree = replace(
            ordered.tree,
            read=(*ordered.tree.read, readable),
            hide=(f"{readable}/hidden",),
            protect=tuple(f"{self.workspace}/{name}" for name in names),
        )
        limits = (*ordered.limits, *((("NPROC", 4_096),) if ordered.user_namespace else ()))
        return replace(ordered, tree=tree, limits=limits)

    def command(self, names: Sequence[str]) -> list[str]:
        """Return the command that tries these escapes, from the workspace."""
        return [PYTHON, "-m", "escapes", f"{self.workspace}/facts.json", *names]


def as_user() -> dict[str, Any]:
    """Return how a subprocess becomes the cell's user, where we are root."""
    return {"user": UID, "group": UID, "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def neighbourhood() -> Iterator[Neighbourhood]:
    """Settle one, and clear it away."""
    with (
        cell_world.workspace(UID) as workspace,
        cell_world.workspace(UID) as outside,
        cell_world.workspace(UID) as readable,
    ):
        unique = f"epad-{os.path.basename(tempfile.mktemp())}"  # noqa: PTH119, S306 (a name alone)
        _furnish(workspace, outside, readable)
        process = subprocess.Popen(
            [PYTHON, "-m", "escapes.neighbour", SECRET, str(outside), unique, str(KEY)],
            cwd=workspace,
            env={"PATH": "/usr/bin:/bin", "TOKEN": SECRET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **as_user(),
        )
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            facts = {
                **told,
                "secret": SECRET,
                "outside": str(outside),
                "workspace": str(workspace),
                "readable": str(readable),
                "unique": unique,
                "key": KEY,
                "suid": _set_user_id_program(readable),
            }
            (workspace / "facts.json").write_text(json.dumps(facts))
            yield Neighbourhood(workspace, outside, facts)
        finally:
            with process:
                process.stdin.close() if process.stdin else None
            with suppress(OSError):
                subprocess.run(_IPC, capture_output=True, check=False)
            with suppress(OSError):
                _forget_queue(unique)


def unavailable(facts: dict[str, Any]) -> set[str]:
    """Name the escapes that mean nothing on this machine."""
    found = set()
    if not facts["suid"]:
        found.add("become_root_by_a_set_user_id_program")
    if facts["interfaces"] == 1:
        found.add("list_the_hosts_interfaces")
    return found


def _furnish(workspace: Path, outside: Path, readable: Path) -> None:
    shutil.copytree(ESCAPES, workspace / "escapes", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (".git/hooks", ".git/objects"):
        (workspace / path).mkdir(parents=True)
    (workspace / ".git/config").write_text("[core]\n")
    (workspace / "planted").symlink_to(outside / "secret")
    for owned in _OWNED:
        (outside / owned).parent.mkdir(exist_ok=True)
        (outside / owned).write_text(SECRET)
    (outside / ".config/autostart").mkdir(parents=True)
    (readable / "hidden").mkdir()
    (readable / "hidden/token").write_text(SECRET)
    (readable / "open").write_text("open")
    shutil.copy("/usr/bin/true", outside / "program")
    if os.geteuid() == 0:
        for root in (workspace, outside, readable):
            for below in root.rglob("*"):
                os.chown(below, UID, UID, follow_symlinks=False)


def _set_user_id_program(readable: Path) -> str:
    """Return a set-user-ID program of root's in a place that the cell can read; empty if we are not root."""
    if os.geteuid() != 0:
        return ""
    program = readable / "id"
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    return str(program)


def _forget_queue(unique: str) -> None:
    """Remove the neighbour's message queue, by its name. Raises OSError."""
    code = f"import ctypes; ctypes.CDLL('librt.so.1').mq_unlink(b'/{unique}')"
    subprocess.run([PYTHON, "-c", code], check=False, **as_user())
