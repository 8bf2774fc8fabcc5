"""Open, replace, move and remove files below a root descriptor, so that no path is ever looked up outside of it.

Each path is one `openat2(RESOLVE_BENEATH)` from the descriptor: the kernel walks it and keeps it below, so there is no
check that a swapped directory could race. RESOLVE_BENEATH refuses an absolute link even where it leads inside, so links
are followed by hand then, each step judged anew by the kernel. A write makes a new file beside the old one and renames
it: it never opens an existing file, so a link at the name is replaced and a hard link elsewhere keeps its content.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from runners.cell import kernel
from runners.tools.git_places import makes_repository, repository_above
from runners.tools.protected import never_read, never_written
from runners.tools.signature import CONTEXT, ToolError

Content = bytes | Callable[[int], None]
"""What is written to a new file: its bytes, or a function that writes to its descriptor."""
BLOCK_BYTES: Final = 1 << 20
_MOST_LINKS: Final = 40
_RESOLVE: Final = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_MAGICLINKS
_OUTSIDE: Final = "paths are relative to the workspace; a link may lead only inside it"
_KINDS: Final = (
    (stat.S_ISDIR, "directory"),
    (stat.S_ISLNK, "link"),
    (stat.S_ISREG, "file"),
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"),
)


def kind_of(mode: int) -> str:
    """Return the kind of a file by its mode."""
    return next((name for test, name in _KINDS if test(mode)), "device")


def root() -> int:
    """Return the workspace's descriptor. Raises ToolError where the call has none."""
    if (descriptor := CONTEXT.get().root) < 0:
        raise ToolError(
            "this call has no workspace", "give `data` instead of `path`, or give the subsystem a directory"
        )
    return descriptor


def open_path(path: str, flags: int) -> int:
    """Open a path below the workspace; links may lead inside. Raises ToolError."""
    path = _relative(path)
    _refuse_unreadable(path)
    descriptor = _walk(path, flags)
    if never_read(real := real_path(descriptor)):
        os.close(descriptor)
        raise _never_read(real)
    return descriptor


def open_file(path: str) -> int:
    """Open a regular file to read. A FIFO or a device is refused, without waiting for its other end."""
    descriptor = open_path(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise ToolError(
        f"{path!r} is a {kind_of(mode)}, not a regular file", "file_list shows the kind of each entry"
    )


def open_directory(path: str) -> int:
    """Open a directory to list."""
    return open_path(path, os.O_RDONLY | os.O_DIRECTORY)


def real_path(descriptor: int) -> str:
    """Return where an open file or directory lies, relative to the workspace. Raises ToolError for one outside."""
    if not (inside := _below(_proc_path(descriptor), _proc_path(root()))):
        raise ToolError("the path lies outside the workspace now", _OUTSIDE)
    return inside


@contextmanager
def parent_of(path: str) -> Iterator[tuple[int, str]]:
    """Give the open directory that a name is written in, and the name. Raises ToolError for a protected one."""
    relative = _relative(path)
    folder, _, name = relative.rstrip("/").rpartition("/")
    if name in {"", ".", ".."}:
        raise ToolError(f"{path!r} names no file", "give the file's own name at the end of the path")
    if len(os.fsencode(name)) > 255:
        raise ToolError(f"the name {name[:40]!r}… has over 255 bytes", "choose a shorter name")
    descriptor = _walk(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        # By its real place too: a link to `.git` has another name.
        inside = real_path(descriptor)
        for place in (relative, f"{inside}/{name}"):
            if never_written(place):
                raise ToolError(
                    f"{place!r} is not written by tools", "a program or a person obeys it: ask a person"
                )
        if repository_above(root(), inside) or makes_repository(root(), inside, {name}):
            raise ToolError(
                f"{path!r} would be a part of a bare git repository", "git obeys what is in one: ask a person"
            )
        yield descriptor, name
    finally:
        os.close(descriptor)


def real_place(folder: int, name: str) -> str:
    """Return the path of a name in an open directory, relative to the workspace. Raises ToolError for one outside."""
    return joined((real_path(folder), name))


def replace(
    path: str, write: Callable[[int], None], *, may_exist: bool = True, mode: int | None = None
) -> None:
    """Put a new file at a path; `write` fills it. The mode is the old file's, unless given. Raises ToolError."""
    with parent_of(path) as (folder, name):
        replace_in(folder, name, write, path=path, may_exist=may_exist, mode=mode)


def replace_in(
    folder: int,
    name: str,
    write: Callable[[int], None],
    *,
    path: str,
    may_exist: bool = True,
    mode: int | None = None,
) -> None:
    """Do the same in an open directory; `path` is the name in messages."""
    old = status(folder, name)
    if old and stat.S_ISDIR(old.st_mode):
        raise ToolError(f"{path!r} is a directory", "give the name of a file")
    if old and not may_exist:
        raise already_there(path)
    if mode is None:
        mode = stat.S_IMODE(old.st_mode) & 0o777 if old and stat.S_ISREG(old.st_mode) else 0o644
    temporary = f".epad-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with translated(path):
        CONTEXT.get().note_temporary(joined((real_path(folder), temporary)))
        descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            write(descriptor)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            rename(folder, temporary, folder, name, may_exist=may_exist)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        finally:
            os.close(descriptor)


def rename(source: int, old: str, target: int, new: str, *, may_exist: bool) -> None:
    """Rename between open directories; without `may_exist` the kernel refuses to replace. Raises OSError."""
    flags = 0 if may_exist else kernel.RENAME_NOREPLACE
    kernel.syscall("renameat2", source, os.fsencode(old), target, os.fsencode(new), flags)


def already_there(path: str) -> ToolError:
    """Return the error of a name that is taken."""
    return ToolError(
        f"there is something at {path!r} already", "ask for it to be replaced, or choose another name"
    )


def writer(data: bytes) -> Callable[[int], None]:
    """Return a function that writes these bytes to a descriptor."""
    return lambda descriptor: write_all(descriptor, data)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def copy_bytes(source: int, target: int) -> None:
    """Append an open file to another, in the kernel where it can."""
    while True:
        try:
            copied = os.copy_file_range(source, target, BLOCK_BYTES << 4)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}:
                raise
            copied = len(block := os.read(source, BLOCK_BYTES))
            write_all(target, block)
        if not copied:
            return


def blocks(descriptor: int, limit: int | None = None) -> Iterator[bytes]:
    """Yield an open file from its beginning, block by block, at most so many bytes."""
    at = 0
    while limit is None or at < limit:
        wanted = BLOCK_BYTES if limit is None else min(BLOCK_BYTES, limit - at)
        block = os.pread(descriptor, wanted, at)
        if not block:
            return
        at += len(block)
        yield block


def hash_of(descriptor: int) -> str:
    """Return the SHA-256 of an open file, in hex."""
    digest = hashlib.sha256()
    for block in blocks(descriptor):
        digest.update(block)
    return digest.hexdigest()


def hash_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def hash_at(path: str, most: int | None = None) -> str | None:
    """Return the SHA-256 of the regular file at a path; None for none, a link, or over `most` bytes."""
    with parent_of(path) as (folder, name):
        found = status(folder, name)
        if found is None or not stat.S_ISREG(found.st_mode) or (most is not None and found.st_size > most):
            return None
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        return hash_of(descriptor)
    finally:
        os.close(descriptor)


def read_whole(path: str, limit: int) -> bytes:
    """Return a file's bytes. Raises ToolError for one above the limit."""
    with opened(path) as descriptor:
        if (size := os.fstat(descriptor).st_size) > limit:
            raise ToolError(
                f"{path!r} has {size} bytes; this tool takes at most {limit}", "use file_read by parts"
            )
        return b"".join(blocks(descriptor, limit))


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Give an open regular file, closed at the end."""
    descriptor = open_file(path)
    try:
        with translated(path):
            yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn the kernel's errors into ones that name the path and the fix."""
    try:
        yield
    except OSError as error:
        raise explained(error, path) from error


def explained(error: OSError, path: str) -> ToolError:
    """Return an error of the kernel as one that names the path and the fix."""
    number = error.errno or 0
    message, hint = _ERRORS.get(number, (os.strerror(number), ""))
    return ToolError(f"{path!r}: {message}", hint)


_ERRORS: Final = {
    errno.ENOENT: (
        "there is no such file or directory in the workspace",
        "file_list shows the names that are there",
    ),
    errno.EEXIST: (
        "there is something at that name already",
        "ask for it to be replaced, or choose another name",
    ),
    errno.ENOTDIR: ("a part of the path is not a directory", "file_list shows the kind of each entry"),
    errno.EISDIR: ("it is a directory", "give the name of a file"),
    errno.ENOTEMPTY: ("the directory is not empty", "set `recursive` to remove what is in it too"),
    errno.ELOOP: ("its links lead round in a circle, or through /proc", "name the file that is meant"),
    errno.EXDEV: ("it leads outside the workspace", _OUTSIDE),
    errno.EACCES: ("its mode or the sandbox refuses that", "only files of the workspace can be used"),
    errno.EPERM: ("the kernel refuses that", "an immutable file, or a file system without this operation"),
    errno.ENOSPC: ("the disk is full", "free space first"),
    errno.EDQUOT: ("the quota is used up", "free space first"),
    errno.EFBIG: ("the file would be larger than a tool may write", "write it in parts, or smaller"),
    errno.EROFS: ("the file system is read-only", "write somewhere else"),
    errno.ENXIO: ("it is a socket or a device", "only regular files can be read"),
    errno.ENAMETOOLONG: ("a name or the path is too long", "use shorter names, at most 255 bytes each"),
    errno.ENOSYS: ("this kernel has no openat2 or renameat2", "epad's file tools need Linux 5.6 or newer"),
}


def _relative(path: str) -> str:
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in path):
        raise ToolError(f"{path!r} has control characters", "names of files are written without them")
    try:
        if len(os.fsencode(path)) > 4095:
            raise ToolError("the path has over 4,095 bytes", "name it from a directory that is nearer")
    except UnicodeEncodeError:
        raise ToolError(f"{path!r} is not valid Unicode", "give the name in UTF-8") from None
    if path.startswith("/") and (inside := _below(path, _proc_path(root()))):
        return inside
    if path.startswith(("/", "~")):
        raise ToolError(f"{path!r} is outside the workspace", _OUTSIDE)
    return path


def _walk(asked: str, flags: int) -> int:
    path = asked
    for _ in range(_MOST_LINKS):
        try:
            return _openat2(path, flags)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise explained(error, asked) from error
        if not (path := _first_link_followed(path)):
            break
    else:
        raise ToolError(f"{asked!r} goes through too many links", "name the file that is meant")
    # The path that was asked for, and not the link's target: that is not the caller's to know.
    raise ToolError(f"{asked!r} leads outside the workspace", _OUTSIDE)


def _first_link_followed(path: str) -> str:
    """Return a path with its first link replaced by the link's target; empty if that is outside or there is no link."""
    parts = path.split("/")
    for at in range(1, len(parts) + 1):
        front = "/".join(parts[:at])
        try:
            descriptor = _openat2(front, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            break
        try:
            target = os.readlink("", dir_fd=descriptor) if stat.S_ISLNK(os.fstat(descriptor).st_mode) else ""
        finally:
            os.close(descriptor)
        if target.startswith("/"):
            inside = _below(target, _proc_path(root()))
            return "/".join([inside, *parts[at:]]) if inside else ""
        if target:
            return "/".join([*parts[: at - 1], target, *parts[at:]])
    return ""


def _below(path: str, base: str) -> str:
    """Return an absolute path as it is below a base; empty if it is not."""
    if path == base:
        return "."
    prefix = base.rstrip("/") + "/"
    return (path[len(prefix) :].lstrip("/") or ".") if path.startswith(prefix) else ""


def _openat2(path: str, flags: int) -> int:
    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, 0, _RESOLVE)
    return kernel.syscall("openat2", root(), os.fsencode(path), how, ctypes.sizeof(how))


def _refuse_unreadable(path: str) -> None:
    if never_read(path):
        raise _never_read(path)


def _never_read(path: str) -> ToolError:
    return ToolError(f"{path!r} is not read by tools", "it holds keys or a session: ask a person")


def _proc_path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def status(folder: int, name: str) -> os.stat_result | None:
    """Return the status of a name in an open directory, a link's own; None where there is none."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def joined(parts: Iterable[str]) -> str:
    """Join the parts of a path, without a leading `./`."""
    return "/".join(part for part in parts if part not in {"", "."}) or "."
