"""Touch what belongs to another user with that user's rights alone, so that root follows none of the user's links.

A root daemon copies, inspects and restores files of subsystems that run as another user. Whoever owns a directory on
the way to a file can put a link there, before or between two looks: to a file that only root may read, or in the place
of one that is about to be written. So the way is walked from the root, and from the first name that belongs to somebody
else on, everything is done as that user: what the user may not open, the kernel refuses, whenever it was put there.
Names before that one are root's, in directories of root's, and nobody else can change them.

Rejected: O_NOFOLLOW, since SQLite opens by path, and a link to a directory passes it; openat2 with RESOLVE_NO_SYMLINKS,
since a person may have linked their own store, and a hard link passes it.

A process has one set of rights for all of its threads (the C library sees to that): only children of one thread change
theirs. In a daemon that is not root nothing is changed, for it has the rights of one user anyway.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MOST_LINKS = 40  # as the kernel has it


@dataclass(frozen=True, slots=True)
class Rights:
    """The user whose rights hold for a path; root's own are None."""

    uid: int
    gid: int

    def groups(self) -> list[int]:
        try:
            return os.getgrouplist(pwd.getpwuid(self.uid).pw_name, self.gid)
        except KeyError:
            return [self.gid]


def rights_for(path: Path) -> Rights | None:
    """Return the owner of the first name on the way to a path that is not root's; None if all are. Raises OSError.

    A link of root's is followed; one of somebody else ends the walk, as any other name of theirs does. A name that is
    not there yet belongs to the owner of its directory, who may make it.

    Where that owner may not pass to that name, since root has closed a directory above it (epad's own state, where a
    cell shows its user a directory), their rights would open nothing, and root's hold: then PermissionError is raised
    for a path that a link leads out of it. A link that is put there after that look is not seen.
    """
    rest, place, links = list(path.absolute().parts[1:]), Path("/"), 0
    while rest:
        name = rest.pop(0)
        if name == "..":
            place = place.parent
            continue
        here = place / name
        try:
            status = here.lstat()
        except FileNotFoundError:
            return None
        if status.st_uid != 0:
            rights = Rights(status.st_uid, status.st_gid)
            if _may_pass(rights, place):
                return rights
            _refuse_a_way_out(here, path)
            return None
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MOST_LINKS:
                return None  # the kernel opens nothing behind it either
            target = here.readlink()
            place = Path("/") if target.is_absolute() else place
            rest = [*(part for part in target.parts if part != "/"), *rest]
        else:
            place = here
    return None


def rights_beside(path: Path) -> Rights | None:
    """Return the rights for making and renaming files beside one: those of its directory's owner. Raises OSError.

    A user's file in a directory of root's has its neighbours made by root, who alone may. A link of root's is followed.
    """
    for _ in range(_MOST_LINKS):
        above = rights_for(path.parent)
        if above is not None or not path.is_symlink():
            return above
        status = path.lstat()
        if status.st_uid != 0:
            return Rights(status.st_uid, status.st_gid)
        path = path.parent / path.readlink()
    return None


def _may_pass(rights: Rights, place: Path) -> bool:
    """Tell if a user may enter a directory and all above it, as their modes say: root's, all of them."""
    groups = {rights.gid, *rights.groups()}
    for directory in (place, *place.parents):
        status = directory.stat()
        bit = stat.S_IXGRP if status.st_gid in groups else stat.S_IXOTH
        if not status.st_mode & bit:
            return False
    return True


def _refuse_a_way_out(first: Path, path: Path) -> None:
    """Raise PermissionError if a path leads out of the first name that is another user's, or that name does."""
    if first.is_symlink() or not path.resolve().is_relative_to(first.resolve()):
        raise PermissionError(errno.EACCES, "a link of its user's leads out of their directory", str(path))


@contextmanager
def as_owner_of(path: Path) -> Iterator[None]:
    """Have the rights of `rights_for(path)` within, if this process is root; within another of these too."""
    if os.getuid() != 0:
        yield
        return
    with our_own():
        wanted = rights_for(path)
    with having(wanted):
        yield


@contextmanager
def having(wanted: Rights | None) -> Iterator[None]:
    """Have these rights within, root's if they are None; nothing changes in a process that is not root."""
    if os.getuid() != 0:
        yield
        return
    before = os.geteuid(), os.getegid(), os.getgroups()
    if wanted is not None:
        _take(wanted.uid, wanted.gid, wanted.groups())
    else:
        _take(0, 0, before[2] if before[0] == 0 else [0])
    try:
        yield
    finally:
        _take(*before)


@contextmanager
def our_own() -> Iterator[None]:
    """Have root's rights again within: for what is epad's."""
    before = os.geteuid(), os.getegid(), os.getgroups()
    if before[0] == os.getuid():
        yield
        return
    _take(os.getuid(), os.getgid(), [os.getgid()])
    try:
        yield
    finally:
        _take(*before)


def _take(uid: int, gid: int, groups: list[int]) -> None:
    if os.geteuid() == uid and os.getegid() == gid and os.getgroups() == groups:
        return
    os.seteuid(0)
    os.setegid(gid)
    os.setgroups(groups)
    os.seteuid(uid)
