"""Write a new file whole or not at all, beside whatever is there already.

A file is made under a name of its own in the directory that is held open, and linked to its name at the end: a name
that is there already makes that fail, so two writers cannot overwrite each other. Where root writes, no link is
followed on the way: whoever may change a directory above could otherwise let root write anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path, PurePath

from epad import EpadError

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ROOTS_MODE, _USERS_MODE = 0o640, 0o600
_ROOTS_DIRECTORY_MODE, _USERS_DIRECTORY_MODE = 0o750, 0o700
_MOST_KEPT = 100


class NewFileError(EpadError):
    """The file cannot be written: it is there already, or a link leads to it."""


def write_new(path: Path, text: str, *, replace: bool = False, make_directory: bool = False) -> Path | None:
    """Write a file; return the name under which the one that was there before is kept, None if there was none.

    Raises NewFileError if it is there and is not to be replaced, and OSError. Root's file is its directory's group's
    to read, a user's its own alone.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the links that are refused below
    with _named(path), _open_directory(path, make=make_directory) as directory:
        temporary = f".{path.name}.{secrets.token_hex(8)}"
        try:
            _write(directory, temporary, text)
            return _put(directory, temporary, path, replace=replace)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error name the file that was asked for: the calls know a part of its path, or its temporary name."""
    try:
        yield
    except OSError as error:
        whole = error.filename if str(error.filename).startswith("/") else str(path)
        raise OSError(error.errno, error.strerror, whole) from error


def _write(directory: int, name: str, text: str) -> None:
    with os.fdopen(os.open(name, _NEW, 0o600, dir_fd=directory), "wb") as file:
        place = os.fstat(directory)
        is_roots = os.geteuid() == 0
        if is_roots and place.st_uid == 0:
            os.fchown(file.fileno(), 0, place.st_gid)
        os.fchmod(file.fileno(), _ROOTS_MODE if is_roots else _USERS_MODE)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _put(directory: int, temporary: str, path: Path, *, replace: bool) -> Path | None:
    kept = None
    try:
        os.link(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except FileExistsError as error:
        if not replace:
            fix = "name another file, or replace it with --force, which keeps it beside the new one"
            raise NewFileError(f"{path} is there already, and stays as it is", fix) from error
        kept = _keep(directory, path)
        os.rename(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)
    return kept


def _keep(directory: int, path: Path) -> Path:
    """Give the file that is there a second name, which is free: it is never without one."""
    for number in range(1, _MOST_KEPT + 1):
        name = f"{path.name}.{number}"
        try:
            os.link(path.name, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            continue
        except PermissionError as error:
            if error.errno == errno.EPERM:  # a directory has one name alone
                raise NewFileError(f"{path} is no file that can be kept", "name another file") from error
            raise
        return path.with_name(name)
    raise NewFileError(f"{path}.1 to .{_MOST_KEPT} are all there", "remove some of them")


@contextlib.contextmanager
def _open_directory(path: Path, *, make: bool) -> Iterator[int]:
    """Hold the directory of a path open. Raises NewFileError for a link that root would follow, and OSError."""
    held = os.open("/", _STEP)
    above = PurePath("/")
    try:
        for name in path.parent.parts[1:]:
            above /= name
            inner = _step(held, name, above, make=make)
            os.close(held)
            held = inner
        directory = os.open(".", _DIRECTORY, dir_fd=held)  # a step can neither be synced nor listed
    finally:
        os.close(held)
    try:
        yield directory
    finally:
        os.close(directory)


def _step(held: int, name: str, path: PurePath, *, make: bool) -> int:
    """Open a directory below one that is held open; `path` is its own, for an error."""
    is_root = os.geteuid() == 0
    flags = _STEP | (os.O_NOFOLLOW if is_root else 0)
    try:
        try:
            return os.open(name, flags, dir_fd=held)
        except FileNotFoundError:
            if not make:
                raise
        os.mkdir(name, _ROOTS_DIRECTORY_MODE if is_root else _USERS_DIRECTORY_MODE, dir_fd=held)
        return os.open(name, flags, dir_fd=held)
    except OSError as error:
        if is_root and _is_link(held, name):
            fix = f"give the path without it: {os.path.realpath(path)}"
            raise NewFileError(f"{path} is a link, and root follows none here", fix) from error
        raise OSError(error.errno, error.strerror, str(path)) from error


def _is_link(held: int, name: str) -> bool:
    try:
        return bool(os.readlink(name, dir_fd=held))
    except OSError:
        return False
