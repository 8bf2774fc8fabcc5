"""The system that is installed on: this machine, or one below a directory. It tells each thing it does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from epad import EpadError
from epad.install.files import File, is_untouched

Run = Callable[[Sequence[str]], None]
Tell = Callable[[str], None]


class InstallError(EpadError):
    """The installation cannot go on; the message names the thing, the place and the fix."""


def run_tool(command: Sequence[str]) -> None:
    """Run one of systemd's tools. Raises InstallError with its output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InstallError(f"{command[0]}: not found; install systemd, which brings it") from error
    if done.returncode != 0:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise InstallError(f"{' '.join(command)}: {said}")


@dataclass(frozen=True, slots=True)
class Target:
    """Names the place to install to and the tools to use; a `rehearsal` tells everything and does nothing."""

    root: Path
    tell: Tell
    rehearsal: bool = False
    run_tool: Run = run_tool

    @property
    def is_this_machine(self) -> bool:
        """Tell if the running service manager is the one that is installed for."""
        return self.root == Path("/")

    def at(self, path: str) -> Path:
        """Return a path of the installed system as seen from here."""
        return self.root / path.lstrip("/")

    def say(self, verb: str, text: str) -> None:
        """Print one line: a verb and its object."""
        self.tell(f"{'would ' if self.rehearsal and verb in _DEEDS else ''}{verb:<7} {text}")

    def write(self, file: File) -> None:
        """Put a file in its place, whole or not at all."""
        place = self.at(file.path)
        if read(place) == file.text and place.stat().st_mode & 0o777 == file.mode:
            self.say("same", str(place))
            return
        self.say("write", str(place))
        if not self.rehearsal:
            _write(place, file.text, file.mode)

    def touch(self, path: str, text: str, mode: int) -> None:
        """Make a file only if there is none."""
        place = self.at(path)
        if place.exists():
            self.say("keep", str(place))
            return
        self.say("write", str(place))
        if not self.rehearsal:
            _write(place, text, mode)

    def link(self, path: str, program: Path) -> None:
        """Let a path lead to a program, unless something else than a former link of that name is there."""
        place = self.at(path)
        if place == program:
            return
        leads = _leads(place)
        if leads == program:
            self.say("same", str(place))
        elif place.exists() and (leads is None or leads.name != program.name):
            self.say("keep", f"{place}: is another's; {program} is the one of the service")
        else:
            self.say("link", f"{place} -> {program}")
            if not self.rehearsal:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.unlink(missing_ok=True)
                place.symlink_to(program)

    def unlink(self, path: str) -> None:
        """Take a link away that `link` made; a file stays."""
        place = self.at(path)
        leads = _leads(place)
        if leads is not None and leads.name == place.name:
            self.say("remove", str(place))
            if not self.rehearsal:
                place.unlink()

    def remove(self, path: str) -> None:
        """Take a file away, and its directory if that was the last in it."""
        place = self.at(path)
        if not place.exists():
            return
        self.say("remove", str(place))
        if not self.rehearsal:
            place.unlink()
            if place.parent.name.endswith(".d") and not any(place.parent.iterdir()):
                place.parent.rmdir()

    def changed_by_hand(self, paths: Sequence[str]) -> list[Path]:
        """Return the existing files that differ from those written."""
        places = [self.at(path) for path in paths]
        return [place for place in places if place.exists() and not is_untouched(read(place))]

    def run(self, *command: str) -> None:
        """Run a tool for this system. Raises InstallError."""
        self.say("run", " ".join(command))
        if not self.rehearsal:
            self.run_tool(command)

    def number_of(self, user: str) -> int | None:
        """Return a user's number there; None if there is no such user."""
        for line in read(self.at("/etc/passwd")).splitlines():
            name, *rest = line.split(":")
            if name == user and len(rest) > 1 and rest[1].isdecimal():
                return int(rest[1])
        return None


_DEEDS = frozenset({"write", "link", "remove", "run"})


def _leads(place: Path) -> Path | None:
    """Return the target of a symbolic link; None if the path is no link."""
    return place.readlink() if place.is_symlink() else None


def read(path: Path) -> str:
    """Return the text of a file; empty if there is none."""
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _write(place: Path, text: str, mode: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    # Opened with its mode, never wider for a moment; renamed, so that systemd reads the old or the new.
    new = place.with_name(place.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask
        file.write(text)
        os.fsync(file.fileno())
    new.rename(place)
