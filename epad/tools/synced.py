"""Tell if a file lies where another program, or the kernel, carries it off this machine.

| a folder is carried away if | for instance |
|---|---|
| the configuration says so: `[tools] synced` | any |
| it, or one above it, has a mark of a program that syncs it | Syncthing, Dropbox, Nextcloud, Resilio, MEGA, Unison |
| it, or one above it, is named as such a program names its folder | Dropbox, OneDrive, iCloudDrive |
| it lies on a file system of the network, or of another machine | NFS, SMB, sshfs, rclone, 9p |

It is looked up by name, and the agent may change what lies there: that makes a folder count that does not, and one that
a person has given to such a program has its mark above the agent's workspace, or is put back by that program.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_MARKS: Final = (
    *(".stfolder", ".dropbox", ".dropbox.cache", ".owncloudsync.log", ".nextcloudsync.log", ".unison"),
    *(".sync", ".megaignore", ".debris", ".insync", ".tmp.drivedownload", ".seafile-data", ".pcloud"),
)
_MARK_PATTERNS: Final = re.compile(r"\._?sync_[0-9a-f]+\.db").fullmatch
_NAMES: Final = re.compile(
    r"dropbox( \(.*\))?|onedrive( - .*)?|google ?drive|my drive|nextcloud|owncloud|iclouddrive|icloud drive|mega(sync)?"
    r"|pclouddrive|seafile|syncthing|insync|resilio sync|box sync",
    re.IGNORECASE,
).fullmatch
_NETWORK: Final = frozenset(
    {
        *(
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "smbfs",
            "ncpfs",
            "afs",
            "ceph",
            "glusterfs",
            "9p",
            "virtiofs",
            "davfs",
        ),
        *(
            "fuse.sshfs",
            "fuse.rclone",
            "fuse.davfs",
            "fuse.davfs2",
            "fuse.s3fs",
            "fuse.gcsfuse",
            "fuse.glusterfs",
        ),
        *(
            "fuse.google-drive-ocamlfuse",
            "fuse.onedriver",
            "fuse.juicefs",
            "fuse.mergerfs-nfs",
            "drvfs",
            "lustre",
        ),
    }
)
_MOST_ENTRIES: Final = 5_000
_MOST_PATH: Final = 4_096
_MOUNTS: Final = Path("/proc/self/mounts")


def carried_away(root: str, arguments: Mapping[str, object], synced: Sequence[str] = ()) -> bool:
    """Tell if a call with these arguments, in a workspace, may write where things leave the machine.

    It reads directories, so it may take its time: call it in a thread.
    """
    folders = {folder for path in _paths(root, arguments) for folder in _up(path)}
    named = {os.path.realpath(os.path.expanduser(one)) for one in synced}  # noqa: PTH111 - also of no home
    mounts = _network_mounts()
    return any(folder in named or folder in mounts or _is_synced(folder) for folder in folders)


def _paths(root: str, arguments: Mapping[str, object]) -> Iterator[str]:
    """Yield the workspace itself, and each place in it that an argument may name."""
    yield os.path.realpath(root)
    for value in arguments.values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and 0 < len(text) <= _MOST_PATH and "\0" not in text:
                yield os.path.realpath(os.path.join(root, text))  # noqa: PTH118 - of a text that is no path too


def _up(path: str) -> Iterator[str]:
    """Yield a path and the folders above it."""
    yield path
    yield from (str(one) for one in Path(path).parents)


def _is_synced(folder: str) -> bool:
    if _NAMES(os.path.basename(folder)):  # noqa: PTH119
        return True
    if any(os.path.lexists(os.path.join(folder, mark)) for mark in _MARKS):  # noqa: PTH118
        return True
    with suppress(OSError), os.scandir(folder) as entries:
        return any(
            _MARK_PATTERNS(entry.name) for entry, _ in zip(entries, range(_MOST_ENTRIES), strict=False)
        )
    return False


def _network_mounts() -> frozenset[str]:
    """Return the places where a file system of the network is mounted."""
    found = set()
    with suppress(OSError):
        for line in _MOUNTS.read_text(errors="replace").splitlines():
            fields = line.split(" ")
            if len(fields) > 2 and fields[2] in _NETWORK:
                found.add(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1]))
    return frozenset(found)
