"""Run a command beside epad's cells under what else holds an agent: nothing, bubblewrap, Landlock alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import cell_world
from neighbourhood import Neighbourhood, as_user

_OWN = ("/tmp", "/run", "/home/agent")  # noqa: S108 (named, not used)
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/agent", "LANG": "C.UTF-8"}


def bubblewrap(workspace: str, readable: Sequence[str] = ()) -> list[str] | None:
    """Return bubblewrap's command with all that it offers for the same places; None where it is not installed."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    roots = [path for path in (*cell_world.SYSTEM, *readable) if os.path.exists(path)]  # noqa: PTH110
    return [
        program,
        *("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *(word for path in roots for word in ("--ro-bind", path, path)),
        *("--proc", "/proc", "--dev", "/dev"),
        *(word for path in _OWN for word in ("--tmpfs", path)),
        *("--bind", workspace, workspace, "--chdir", workspace),
    ]


def protecting(here: Neighbourhood) -> list[str]:
    """Return bubblewrap's options for the places that epad protects, as far as they exist."""
    paths = [str(here.workspace / name) for name in (".git/hooks", ".git/config")]
    return [word for path in paths for word in ("--ro-bind", path, path)]


def run_as_user(
    command: Sequence[str], directory: str, environment: Mapping[str, str] = ENVIRONMENT
) -> subprocess.CompletedProcess[str]:
    """Run a command as the cells' user, and return what it printed."""
    options: dict[str, Any] = as_user()
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, **options
    )
