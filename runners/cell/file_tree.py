"""Build the file tree of a cell: only files that the plan names exist in it.

    1. copy each mount that is wanted, by a descriptor, out of the tree that is seen now
    2. mount an empty file system somewhere, or cover places of the host's tree where that is the base
    3. put the copies in it, parents before children
    4. make it the root, and let go of the old one

Nothing of the cell runs before the last step, and a failure before it leaves the tree of the start. A root that may be
written, and the protected files in it, are opened without following symbolic links: under a root daemon the owner of
the directory might swap one in, between the plan and now.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from runners.cell import kernel
from runners.cell.plan import Tree

_STAGES: Final = ("/tmp", "/run", "/mnt", "/dev")  # noqa: S108 (the first that exists is covered, in this mount namespace)
_BASIC_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
_DEVICE_LINKS: Final = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)
# The rest of /proc is made of processes; these change the machine, or tell of its keys. A capability guards most of
# them, but for uid 0 some only by their owner.
_READ_ONLY_IN_PROC: Final = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi")
_HIDDEN_IN_PROC: Final = ("keys", "key-users", "kcore", "timer_list", "latency_stats", "sched_debug")
_PRIVATE: Final = kernel.MS_NOSUID | kernel.MS_NODEV
_PLAIN: Final = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
_READ_ONLY: Final = _PLAIN | kernel.MOUNT_ATTR_RDONLY


@dataclass(frozen=True, slots=True)
class _Copy:
    """Holds a detached copy of a mount. `order` decides between two of one place: the later lies on top."""

    path: str
    descriptor: int
    is_directory: bool
    order: int


@dataclass(frozen=True, slots=True)
class _Link:
    path: str
    target: str
    order: int = 0


@dataclass(frozen=True, slots=True)
class _Empty:
    path: str
    mode: int
    order: int


@dataclass(frozen=True, slots=True)
class _Text:
    path: str
    text: str
    order: int = 2


_Entry = _Copy | _Link | _Empty | _Text


@dataclass(frozen=True, slots=True)
class Owner:
    """Names whose the empty directories of a cell are."""

    uid: int
    gid: int


@dataclass(slots=True)
class Built:
    """Lists the files that were made outside of the cell for it: placeholders of protected paths."""

    placeholders: list[str] = field(default_factory=list)


def build(tree: Tree, owner: Owner, put_proc: Callable[[str], None]) -> Built:
    """Build the tree, and make it this process's root. Raises OSError that names the place.

    `put_proc` mounts /proc on the place that it is given, while the one of the start is still within reach: the kernel
    gives a user namespace no new one otherwise.
    """
    built = Built()
    entries = sorted(_entries(tree, built), key=_place)
    if tree.base == "host":
        _put("", entries, owner)
        _furnish_devices("")
        put_proc("/proc")
        return built
    stage = next(place for place in _STAGES if os.path.isdir(place))
    kernel.mount("tmpfs", stage, _PRIVATE, "mode=755,size=16m")
    try:
        _furnish(stage)
        _put(stage, entries, owner)
        _furnish_devices(stage)
        put_proc(f"{stage}/proc")
    except OSError:
        kernel.unmount(stage)
        raise
    _become_root(stage)
    return built


def mount_proc(place: str) -> None:
    """Mount the /proc of our pid namespace, without the files that change the machine or describe it."""
    kernel.mount("proc", place, _PRIVATE | kernel.MS_NOEXEC)
    for name in _READ_ONLY_IN_PROC:
        _cover_again(f"{place}/{name}", f"{place}/{name}", _READ_ONLY)
    for name in _HIDDEN_IN_PROC:
        _cover_again(f"{place}/{name}", "/dev/null", kernel.MOUNT_ATTR_RDONLY)


def show_host_proc(place: str, *, read_only: bool = False) -> None:
    """Mount the host's /proc: where the cell can have none of its own, or to be read. Raises OSError."""
    attributes = _READ_ONLY if read_only else kernel.MOUNT_ATTR_NOSUID
    _attach(_copy("/proc", 0, attributes=attributes), place)
    if read_only:
        for name in _HIDDEN_IN_PROC:
            _cover_again(f"{place}/{name}", "/dev/null", kernel.MOUNT_ATTR_RDONLY)


def _cover_again(path: str, source: str, attributes: int) -> None:
    if not os.path.exists(path):
        return
    copy = _copy(source, 0, attributes=attributes, where=path)
    _attach(copy, path)


def _place(entry: _Entry) -> tuple[list[str], int]:
    return entry.path.rstrip("/").split("/"), entry.order


def _entries(tree: Tree, built: Built) -> Iterator[_Entry]:
    """Yield all that is put into the tree, each with a descriptor that was opened before anything is covered."""
    yield from _read_entries(tree.read)
    yield _Empty("/dev", 0o755, 1)
    yield from (_copy(path, 3, attributes=0) for path in _present((*_BASIC_DEVICES, *tree.devices)))
    yield from (_Empty(path, 0o700, 1) for path in (*tree.empty, "/dev/shm"))  # noqa: S108 (the cell's)
    yield from (_Text(path, text) for path, text in tree.texts)
    for root in _present(tree.write):
        held = _open_exactly(root)
        yield _copy_of(held, root, 2, attributes=_PLAIN)
        yield from _protected(held, root, tree, built)
        os.close(held)
    yield from (_covering(path) for path in _present(tree.hide))


def _read_entries(paths: Iterable[str]) -> Iterator[_Entry]:
    for path in paths:
        if os.path.islink(path):
            yield _Link(path, os.readlink(path))
        elif os.path.exists(path):
            yield _copy(path, 1, attributes=_READ_ONLY)


def _covering(path: str) -> _Entry:
    if os.path.isdir(path):
        return _Empty(path, 0o500, 4)
    return _copy("/dev/null", 4, attributes=kernel.MOUNT_ATTR_RDONLY, where=path)


def _present(paths: Iterable[str]) -> Iterator[str]:
    return (path for path in paths if os.path.exists(path))


def _root() -> int:
    return os.open("/", os.O_PATH | os.O_CLOEXEC)


def _open_exactly(path: str) -> int:
    """Open an absolute path that no symbolic link is a part of. Raises OSError."""
    root = _root()
    try:
        return kernel.open_beneath(root, path.lstrip("/") or ".", os.O_PATH)
    finally:
        os.close(root)


def _protected(held: int, root: str, tree: Tree, built: Built) -> Iterator[_Copy]:
    """Yield the read-only copies of protected and hidden paths below a root, and pins of the directories above them.

    A directory that holds a protected one could be renamed, and another be made in its place; a mount point cannot.
    """
    pinned: set[str] = set()
    for path in (*tree.protect, *(f"{path}/" for path in tree.hide)):
        below = path.rstrip("/").removeprefix(root.rstrip("/") + "/")
        if below == path.rstrip("/"):
            continue
        parts = below.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent not in pinned and (found := _open(held, parent)) is not None:
                pinned.add(parent)
                yield _copy_of(found, f"{root}/{parent}", 2, attributes=_PLAIN)
                os.close(found)
        found = _open(held, below)
        if found is None:
            found = _placeholder(held, root, below, built, is_directory=path.endswith("/"))
        if found is not None:
            yield _copy_of(found, f"{root}/{below}", 4, attributes=_READ_ONLY)
            os.close(found)


def _open(directory: int, path: str) -> int | None:
    """Open a path below a directory; None where it is not, or lies beyond a symbolic link."""
    try:
        return kernel.open_beneath(directory, path, os.O_PATH)
    except OSError:
        return None


def _placeholder(held: int, root: str, below: str, built: Built, *, is_directory: bool) -> int | None:
    """Make an empty file or directory where a protected path does not exist yet; None where that cannot be."""
    parent, _, name = below.rpartition("/")
    above = _open(held, parent or ".")
    if above is None:
        return None
    try:
        if is_directory:
            os.mkdir(name, 0o755, dir_fd=above)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644, dir_fd=above))
    except OSError:
        return None  # the root cannot be written, or a symbolic link lies there
    finally:
        os.close(above)
    built.placeholders.append(f"{root}/{below}")
    return _open(held, below)


def _copy(path: str, order: int, *, attributes: int, where: str = "") -> _Copy:
    held = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return _copy_of(held, where or path, order, attributes=attributes)
    finally:
        os.close(held)


def _copy_of(held: int, path: str, order: int, *, attributes: int) -> _Copy:
    copy = kernel.clone_mount(held, what=path)
    if attributes:
        kernel.set_mount_attributes(copy, attributes)
    return _Copy(path, copy, stat.S_ISDIR(os.fstat(held).st_mode), order)


def _put(stage: str, entries: Iterable[_Entry], owner: Owner) -> None:
    for entry in entries:
        place = f"{stage}{entry.path}"
        match entry:
            case _Link(target=target):
                os.makedirs(os.path.dirname(place), exist_ok=True)
                os.symlink(target, place)
            case _Empty(mode=mode):
                os.makedirs(place, exist_ok=True)
                kernel.mount("tmpfs", place, _PRIVATE, f"mode={mode:o},uid={owner.uid},gid={owner.gid}")
            case _Text(text=text):
                _write_text(place, text, owner)
            case _Copy(is_directory=is_directory):
                _make_target(place, is_directory=is_directory)
                _attach(entry, place)


def _write_text(place: str, text: str, owner: Owner) -> None:
    held = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.write(held, text.encode())
        os.fchown(held, owner.uid, owner.gid)
    finally:
        os.close(held)


def _make_target(place: str, *, is_directory: bool) -> None:
    if is_directory:
        os.makedirs(place, exist_ok=True)
    elif not os.path.exists(place):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _attach(copy: _Copy, place: str) -> None:
    target = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        kernel.attach_mount(copy.descriptor, target, what=place)
    finally:
        os.close(target)
        os.close(copy.descriptor)


def _furnish(stage: str) -> None:
    for name in ("proc", "run", "etc", "var"):
        os.makedirs(f"{stage}/{name}", exist_ok=True)


def _furnish_devices(stage: str) -> None:
    for path, target in _DEVICE_LINKS:
        os.symlink(target, f"{stage}{path}")
    os.mkdir(f"{stage}/dev/pts")
    try:
        kernel.mount(
            "devpts", f"{stage}/dev/pts", kernel.MS_NOSUID | kernel.MS_NOEXEC, "newinstance,ptmxmode=0666"
        )
    except OSError:
        return  # terminals are a comfort and no wall


def _become_root(stage: str) -> None:
    """Make a mount the root, and let go of the old one, which lies on top of it for a moment (pivot_root(2))."""
    os.chdir(stage)
    kernel.syscall("pivot_root", b".", b".")
    kernel.unmount(".")
    os.chdir("/")
    root = _root()
    kernel.set_mount_attributes(root, _READ_ONLY, recursive=False)
    os.close(root)
