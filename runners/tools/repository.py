"""Run git on a repository of the workspace, so that nothing the repository says is run.

Three walls, each of which holds alone. The place: `.git` is a directory of the workspace itself, and its objects are
not elsewhere. The settings: hooks, fsmonitor, external diffs, textconv, filters, merge drivers, signing and every
protocol are off on git's command line; filters by their names, having no common switch. The sandbox (`sandbox.py`): a
call may execute git and nothing else, so a setting that was overlooked finds no shell.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from runners.tools import beneath, git_places, programs, protected
from runners.tools.signature import ToolError

MOST_BYTES: Final = 4 << 20
_OFF: Final = (
    *("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.pager=cat", "core.sshCommand=false"),
    *("core.alternateRefsCommand=false", "core.attributesFile=/dev/null", "core.excludesFile=/dev/null"),
    *("core.askPass=", "core.editor=false", "core.packedGitWindowSize=16m", "core.packedGitLimit=128m"),
    *("commit.gpgSign=false", "tag.gpgSign=false", "log.showSignature=false", "gc.auto=0"),
    *("maintenance.auto=false", "submodule.recurse=false", "diff.external=", "diff.ignoreSubmodules=all"),
    *("status.submoduleSummary=false", "credential.helper=", "protocol.allow=never", "color.ui=false"),
    *("core.quotePath=false", "pack.threads=1", "index.threads=1", "advice.detachedHead=false"),
)
_ENVIRONMENT: Final = {
    "PATH": "/usr/lib/git-core:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_DIR": ".git",
    "GIT_WORK_TREE": ".",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
_REFERENCE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@-]*")
_DRIVER: Final = re.compile(
    r"(filter|diff|merge)\.(.+)\.(clean|smudge|process|textconv|command|driver)", re.DOTALL
)
_MOST_NAMED: Final = 1000
_MOST_PATH_BYTES: Final = 4095
_NOTHING: Final = ".git/nothing"
"""A pathspec of no file."""
_INSIDE: Final = ("objects", "refs")
_READ_AT_ONCE: Final = (
    *("HEAD", "config", "config.worktree", "index", "packed-refs"),
    *("info/attributes", "info/exclude", "info/grafts", "shallow"),
)
"""Files of `.git` that git opens before anything else: it would wait for the other end of a FIFO."""
_ELSEWHERE: Final = ("objects/info/alternates", "commondir")


@dataclass(frozen=True, slots=True)
class Repository:
    """Holds an open repository, the settings that switch its drivers off, and the filters that it names."""

    descriptor: int
    path: str
    drivers: tuple[str, ...] = ()
    filters: frozenset[str] = frozenset()
    identity: dict[str, str] = field(default_factory=dict)

    def run(
        self,
        *arguments: str,
        limit: int = MOST_BYTES,
        text: str | None = None,
        accept: Sequence[int] = (0,),
        changes: bool = False,
    ) -> tuple[bytes, bool]:
        """Run git and return its output, and if it was cut. Raises ToolError with git's own words."""
        settings = [part for each in (*_OFF, *self.drivers) for part in ("-c", each)]
        command = ["git", "--no-pager", "--literal-pathspecs", *settings, *arguments]
        environment = {**_ENVIRONMENT, **self.identity}
        if changes:
            del environment["GIT_OPTIONAL_LOCKS"]
        try:
            status, out, err = programs.run(command, self.descriptor, environment, text, limit)
        except FileNotFoundError:
            raise ToolError("git is not installed", "install git, as by apt install git") from None
        if len(out) > limit:
            return out[:limit], True
        if status not in accept:
            told = err.decode(errors="replace").strip()[-400:] or f"status {status}"
            raise ToolError(
                f"git {arguments[0]} failed: {told}", "git_status shows the state of the repository"
            )
        return out, False

    def lines(self, *arguments: str) -> list[str]:
        """Run git and return its records, which a NUL ends."""
        out, cut = self.run(*arguments)
        records = out.decode("utf-8", errors="replace").split("\0")
        return records[:-1] if not cut or records else []

    def commit(self, revision: str) -> str:
        """Return the hash of the commit that a revision names. Raises ToolError."""
        if revision.startswith("-") or any(ord(each) < 33 or each == "\\" for each in revision):
            raise ToolError(f"{revision!r} is not a revision", "as in HEAD~2, main, v1.0 or a hash")
        asked = f"{revision}^{{commit}}"
        out, _ = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", asked, accept=(0, 1, 128))
        found = out.decode(errors="replace").strip()
        if not re.fullmatch(r"[0-9a-f]{40,64}", found):
            raise ToolError(
                f"there is no commit {revision!r}", "git_log, git_branch and git_tag show those there are"
            )
        return found

    def head(self) -> tuple[str, str]:
        """Return the reference that HEAD is at, or HEAD itself, and its commit; empty where there is none yet."""
        name, _ = self.run("symbolic-ref", "--quiet", "HEAD", accept=(0, 1))
        commit, _ = self.run("rev-parse", "--verify", "--quiet", "HEAD", accept=(0, 1))
        return name.decode(errors="replace").strip() or "HEAD", commit.decode().strip()

    def place(self, name: str) -> str:
        """Return the path of a reference, as an effect tells it."""
        return beneath.joined((self.path, ".git", name))

    def refuse_protected(self, paths: Sequence[str]) -> None:
        """Refuse to let git write files that other tools may not write."""
        for path in paths:
            place = beneath.joined((self.path, path))
            if protected.never_written(place) or protected.leads_to_protected(place):
                raise ToolError(
                    f"{path!r} would be changed, which tools do not write", "a person can do this in a shell"
                )
        for folder, names in _names_by_folder(paths).items():
            if git_places.makes_repository(self.descriptor, folder, names):
                raise ToolError(
                    f"{folder!r} would be a bare git repository", "git obeys what is in one: ask a person"
                )

    def refuse_unreadable(self, paths: Sequence[str]) -> None:
        """Refuse files that other tools may not read: what git stores can be read."""
        if hidden := [path for path in paths if not self.is_readable(path)]:
            raise ToolError(
                f"{hidden[0]!r} is not read by tools", "name the other files, or have git ignore this one"
            )

    def is_readable(self, path: str) -> bool:
        """Tell if tools may read the file at a path of the repository."""
        return not protected.never_read(beneath.joined((self.path, path)))

    def readable(self, names: Sequence[str], asked: Sequence[str]) -> tuple[list[str], bool]:
        """Return the pathspecs that leave out what is not read, and if they leave out anything. Raises ToolError.

        `names` are the files that the pathspecs `asked` stand for.
        """
        self.refuse_unreadable(asked)
        kept = [name for name in names if self.is_readable(name)]
        if len(kept) == len(names):
            return list(asked), False
        if len(kept) > _MOST_NAMED:
            raise ToolError(
                "some of the files are not read by tools, and the others are too many to name",
                "give `paths`",
            )
        return kept or [_NOTHING], True

    def refuse_filtered(self, paths: Sequence[str]) -> None:
        """Refuse to store files that a filter would change first: with filters off they would be stored raw."""
        if not self.filters or not paths:
            return
        records = self.lines("check-attr", "-z", "filter", "--", *paths)
        for path, _, value in zip(records[::3], records[1::3], records[2::3], strict=False):
            if value in self.filters:
                raise ToolError(
                    f"{path!r} goes through the filter {value!r}, which is not run here", "commit it by hand"
                )


@contextmanager
def opened(path: str) -> Iterator[Repository]:
    """Open the repository whose top directory is at a path. Raises ToolError for one that lies elsewhere too."""
    descriptor = beneath.open_directory(path)
    try:
        real = beneath.real_path(descriptor)
        _check_place(descriptor, path)
        plain = Repository(descriptor, "" if real == "." else real)
        yield _described(plain)
    finally:
        os.close(descriptor)


@contextmanager
def containing(path: str) -> Iterator[tuple[Repository, str]]:
    """Open the repository that a file is in, and give the file's path in it."""
    descriptor = beneath.open_path(path, os.O_PATH)
    try:
        parts = beneath.real_path(descriptor).split("/")
    finally:
        os.close(descriptor)
    for at in range(len(parts) - 1, -1, -1):
        folder = "/".join(parts[:at]) or "."
        directory = beneath.open_directory(folder)
        try:
            found = beneath.status(directory, ".git") is not None
        finally:
            os.close(directory)
        if found:
            with opened(folder) as repository:
                yield repository, "/".join(parts[at:])
            return
    raise ToolError(
        f"{path!r} is in no git repository of the workspace", "a repository above it is not opened"
    )


def reference(name: str, kind: str) -> str:
    """Return the name of a branch or tag. Raises ToolError for one that git or a shell would take for more."""
    wrong = not _REFERENCE.fullmatch(name) or ".." in name or "@{" in name or "//" in name
    if wrong or name.endswith(("/", ".", ".lock")) or name == "HEAD" or "/." in name or len(name) > 200:
        raise ToolError(
            f"{name!r} is not a name for a {kind}", "letters, digits and . _ - / +, a letter first"
        )
    return name


def relative_paths(paths: Sequence[str]) -> list[str]:
    """Return paths of files in a repository. Raises ToolError for absolute ones and those with `..`."""
    for path in paths:
        if (
            path.startswith("/")
            or ".." in path.split("/")
            or any(ord(each) < 32 for each in path)
            or not path
            or len(os.fsencode(path)) > _MOST_PATH_BYTES
        ):
            raise ToolError(
                f"{path[:200]!r} is not a path in the repository",
                "paths are relative to the repository's top",
            )
    return list(paths)


def _check_place(descriptor: int, path: str) -> None:
    git = beneath.status(descriptor, ".git")
    if git is None:
        raise ToolError(
            f"{path!r} is not the top of a git repository", "name the directory that has .git in it"
        )
    if not stat.S_ISDIR(git.st_mode):
        kind = beneath.kind_of(git.st_mode)
        raise ToolError(
            f"the .git of {path!r} is a {kind}",
            "worktrees and submodules, which lie elsewhere, are not opened",
        )
    folder = os.open(".git", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
    try:
        for name in _INSIDE:
            found = beneath.status(folder, name)
            if found is None or not stat.S_ISDIR(found.st_mode):
                raise ToolError(
                    f"the .git/{name} of {path!r} is no directory", "the repository is damaged, or linked"
                )
        for name in _ELSEWHERE:
            if _exists(folder, name):
                raise ToolError(
                    f"{path!r} has a .git/{name}: objects are elsewhere", "copy the repository whole"
                )
        for name in _READ_AT_ONCE:
            if _kind(folder, name) not in {"", "file", "directory"}:
                raise ToolError(
                    f"the .git/{name} of {path!r} is a {_kind(folder, name)}", "the repository is damaged"
                )
    finally:
        os.close(folder)


def _kind(folder: int, name: str) -> str:
    """Return the kind of what is at a name, or of what a link there leads to; empty for nothing."""
    try:
        return beneath.kind_of(os.stat(name, dir_fd=folder).st_mode)
    except OSError:
        return ""


def _names_by_folder(paths: Sequence[str]) -> dict[str, set[str]]:
    """Return the names in each directory that the paths go through."""
    names: dict[str, set[str]] = {}
    for path in paths:
        parts = path.split("/")
        for at, name in enumerate(parts):
            names.setdefault("/".join(parts[:at]) or ".", set()).add(name)
    return names


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _described(plain: Repository) -> Repository:
    """Read the repository's settings once: its drivers, and if it names who commits."""
    out, _ = plain.run("config", "--null", "--name-only", "--list")
    keys = {key for key in out.decode(errors="replace").split("\0") if key}
    drivers: list[str] = []
    filters: set[str] = set()
    for key in sorted(keys):
        if match := _DRIVER.fullmatch(key):
            section, name, kind = match.groups()
            drivers.append(f"{key}={'false' if kind == 'driver' else ''}")
            if section == "filter":
                filters.add(name)
                drivers.append(f"filter.{name}.required=false")
    identity: dict[str, str] = {}
    for role in ("AUTHOR", "COMMITTER"):
        if "user.name" not in keys:
            identity[f"GIT_{role}_NAME"] = "epad"
        if "user.email" not in keys:
            identity[f"GIT_{role}_EMAIL"] = "epad@localhost"
    return Repository(plain.descriptor, plain.path, tuple(drivers), frozenset(filters), identity)
