"""A file that is held open: whether its name still leads to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OpenFile:
    """What a name led to when it was opened. A file whose name was taken is written to, and gone at the end."""

    path: Path
    device: int
    inode: int

    @classmethod
    def at(cls, path: Path) -> OpenFile:
        """The file that is there now. Raises OSError."""
        status = path.stat()  # not open(): closing it would drop SQLite's locks
        return cls(path, status.st_dev, status.st_ino)

    def loss(self) -> str:
        """Why what is written to the file cannot be found by its name any more; empty while it can."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            what = "was deleted"
        except OSError as error:
            what = f"cannot be seen ({error.strerror})"
        else:
            if (status.st_dev, status.st_ino) == (self.device, self.inode):
                return ""
            what = "was replaced by another file"
        return (
            f"{self.path} {what} while it is in use: what is written now ends with the daemon; copy it from "
            f"/proc/{os.getpid()}/fd while it runs, or stop it and restore the newest checkpoint"
        )
