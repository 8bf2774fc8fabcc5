"""Run a command beside epad's cells under what else holds an agent: nothing, bubblewrap, sandbox-runtime, systemd.

Each peer gets all that it offers for the same places: the workspace to write, the system's programs and one more
directory to read, the protected names read-only. `_confinement_box.py` runs the peer that is systemd's properties.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import cell_world
from neighbourhood import Neighbourhood, as_user

PROTECTED: Final = (".git/hooks", ".git/config", ".envrc", ".vscode")
_OWN = ("/tmp", "/run", "/home/agent")  # noqa: S108 (named, not used)
# sandbox-runtime tells its programs to keep their temporary files here, and does not make it.
_SCRATCH: Final = "/tmp/claude"  # noqa: S108
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/agent", "LANG": "C.UTF-8"}


def bubblewrap(workspace: str, readable: Sequence[str] = ()) -> list[str] | None:
    """Return bubblewrap's command with all that it offers for the same places; None where it is not installed."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    return [
        program,
        *("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *(word for path in _readable(readable) for word in ("--ro-bind", path, path)),
        *("--proc", "/proc", "--dev", "/dev"),
        *(word for path in _OWN for word in ("--tmpfs", path)),
        *("--bind", workspace, workspace, "--chdir", workspace),
    ]


def protecting(here: Neighbourhood) -> list[str]:
    """Return bubblewrap's options for the places that epad protects, as far as they exist."""
    paths = [path for name in PROTECTED if os.path.exists(path := f"{here.workspace}/{name}")]  # noqa: PTH110
    return [word for path in paths for word in ("--ro-bind", path, path)]


@contextmanager
def sandbox_runtime(
    workspace: str, readable: Sequence[str] = (), hidden: Sequence[str] = ()
) -> Iterator[list[str] | str]:
    """Lend the command of npm's @anthropic-ai/sandbox-runtime; one line why not where it is not installed."""
    program = shutil.which("srt")
    if program is None:
        yield "not installed: npm install -g @anthropic-ai/sandbox-runtime, and apt-get install socat ripgrep"
        return
    settings = {
        "network": {"allowedDomains": [], "deniedDomains": []},
        "filesystem": {
            "denyRead": ["/", *hidden],
            "allowRead": [*_readable(readable), workspace, _SCRATCH],
            "allowWrite": [workspace],
            "denyWrite": [f"{workspace}/{name}" for name in PROTECTED],
        },
    }
    Path(_SCRATCH).mkdir(exist_ok=True)
    Path(_SCRATCH).chmod(0o1777)
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir="/var/tmp", encoding="utf-8") as file:
        json.dump(settings, file)
        file.flush()
        Path(file.name).chmod(0o644)
        yield [program, "--settings", file.name, "--"]


def _readable(more: Sequence[str]) -> list[str]:
    return [path for path in (*cell_world.SYSTEM, *more) if os.path.exists(path)]  # noqa: PTH110


def run_as_user(
    command: Sequence[str], directory: str, environment: Mapping[str, str] = ENVIRONMENT
) -> subprocess.CompletedProcess[str]:
    """Run a command as the cells' user, and return what it printed."""
    options: dict[str, Any] = as_user()
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, **options
    )


def got_out(output: str) -> list[str]:
    """Read the escapes that got out of a program's output. Raises ValueError where it printed none."""
    with suppress(IndexError, ValueError):
        found: list[str] = json.loads(output.splitlines()[-1])
        return found
    raise ValueError(f"the escapes' program has not reported; it printed: {output[-300:]!r}")
