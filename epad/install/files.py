"""List every file that `epad install` writes, as a value: its path and its contents. Pure.

Each begins with a line that bears the digest of the rest. A file whose digest does not fit is somebody's own work by
now: it is neither replaced nor removed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

UNIT_DIRECTORY = "/etc/systemd/system"
UNIT = f"{UNIT_DIRECTORY}/epad.service"
DROP_INS = f"{UNIT}.d"
SYSUSERS = "/etc/sysusers.d/epad.conf"
TMPFILES = "/etc/tmpfiles.d/epad.conf"
ENGINE = "/etc/epad/epad.toml.d/10-systemd.toml"
POLKIT_DIRECTORY = "/etc/polkit-1/rules.d"
POLKIT = f"{POLKIT_DIRECTORY}/50-epad.rules"
MANUAL = "/usr/local/share/man/man1/epactl.1"
# In everybody's PATH, and no package's.
COMMAND_DIRECTORY = "/usr/local/bin"
COMMANDS = ("epad", "epactl")
# An empty file is all that lingering is: the user's manager starts with the machine and outlives logins.
LINGER = "/var/lib/systemd/linger/epad"
CONFIGURATION = "/etc/epad/epad.toml"
EMPTY_CONFIGURATION = (
    "# What differs from `epad default-config`. After a change: epad check, then systemctl reload epad\n"
)

_MARK = "Written by `epad install`; sha256 of the rest: "
_EXAMPLES = {
    "20-upstream-keys.conf": f"{DROP_INS}/20-upstream-keys.conf.example",
    "30-network.conf": f"{DROP_INS}/30-network.conf.example",
    "slice-20-memory.conf": "/etc/systemd/user/epad.slice.d/20-memory.conf.example",
}


@dataclass(frozen=True, slots=True)
class File:
    """Describes one file of the installed system; `path` is its place there."""

    path: str
    body: str
    mode: int = 0o644
    comment: str = "#"

    @property
    def text(self) -> str:
        """Return the contents of the file: the mark, then the body."""
        return f"{self.comment} {_MARK}{_digest(self.body)}\n{self.body}"


def is_untouched(text: str) -> bool:
    """Tell if a file is unchanged since `epad install` wrote it, in this version or another."""
    first, _, rest = text.partition("\n")
    return first.partition(_MARK)[2] == _digest(rest)


def first_files() -> list[File]:
    """Return the files that create the user epad, whose number the other files need."""
    return [File(SYSUSERS, _shipped("epad.sysusers")), File(TMPFILES, _shipped("epad.tmpfiles"))]


def service_files(program: Path, user_number: int, units: Sequence[str], manual: str) -> list[File]:
    """The rest, for an epad that is installed as `program`; `units` are systemd's own that it may command."""
    files = [
        File(ENGINE, '# Children are transient units of user epad.\n[daemon]\nengine = "systemd"\n', 0o640),
        File("/etc/systemd/user/epad.slice", _shipped("epad.slice")),
        *(File(path, _shipped(f"examples/{name}")) for name, path in _EXAMPLES.items()),
        File(f"{DROP_INS}/10-user-manager.conf", _user_manager(user_number)),
        File(UNIT, _unit(program)),
        File(MANUAL, manual, comment='.\\"'),
    ]
    return [*files, File(POLKIT, _polkit(units), comment="//")] if units else files


def every_path() -> list[str]:
    """Return every path that is written and removed again; the unit comes last, since the others serve it."""
    files = [*first_files(), *service_files(Path("/epad"), 0, ["any.service"], "")]
    return [file.path for file in files]


def _unit(program: Path) -> str:
    """Return the unit with this machine's programs.

    Raises ValueError for a path that systemd would take apart.
    """
    quoted = {name: _argument(program.with_name(name)) for name in ("epad", "epactl")}
    text = _shipped("epad.service")
    text = re.sub(r"(?m)^ExecStart=\S+", lambda _: f"ExecStart={quoted['epad']}", text)
    return re.sub(r"(?m)^ExecReload=\S+", lambda _: f"ExecReload={quoted['epactl']}", text)


def _argument(path: Path) -> str:
    """A path as the first word of a command of systemd's, in which quotes, specifiers and variables mean something."""
    if not re.fullmatch(r"/[\w./+@:~-]+", str(path), re.ASCII):
        raise ValueError(f"{path}: has characters that a unit cannot name; install epad in another directory")
    return str(path)


def _user_manager(number: int) -> str:
    about = "# The manager that the children are units of: there before the daemon is."
    return f"{about}\n[Unit]\nWants=user@{number}.service\nAfter=user@{number}.service\n"


def _polkit(units: Sequence[str]) -> str:
    names = json.dumps(sorted(units))
    return f"""\
// User epad may command exactly the units that its configuration names with kind = "unit": `epad install` again after a
// change of those. Never all of manage-units: that is root by another name.
polkit.addRule(function (action, subject) {{
  if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "epad" &&
      {names}.indexOf(action.lookup("unit")) >= 0) {{
    return polkit.Result.YES;
  }}
}});
"""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _shipped(name: str) -> str:
    """Return a file of systemd/: packed into the wheel, or beside the package in a checkout."""
    packed = resources.files("epad") / "systemd_files" / name
    return packed.read_text() if packed.is_file() else (_CHECKOUT / name).read_text()


_CHECKOUT = Path(__file__).parents[2] / "systemd"
