"""Find the target of a tool's call by its arguments: the real path, the host, the container.

| argument | the place that a person reads | what a consent for a time covers |
|---|---|---|
| `path` | the real path, and if it is a directory, a link, or not there | the directory that it is in |
| `repo` | the real path of the repository | that repository |
| `url`, `requests` | the hosts with their ports | these hosts |
| `container`, `page` | its name | that container, that page |
| none of these | all arguments | this very call |

Switches that are on, a `method` or `mode`, and `paths` narrow it: who may delete in a directory may not do so
recursively, and who may change a branch may not take files back.
The path is looked up when the person is asked; the worker opens it anew, and never outside of the workspace.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeGuard
from urllib.parse import urlsplit

from epad.tools.shown import cut, visible

_MOST_CHARACTERS: Final = 300
_MOST_READ: Final = 4_096
"""Characters of one path or URL, the kernel's own limit for paths: a longer one is shown and compared as a whole."""
_MOST_ITEMS: Final = 100
"""Arguments, and requests: no tool takes as many."""
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_KINDS: Final = ("method", "mode")


@dataclass(frozen=True, slots=True)
class Target:
    """`place` is where the call lands, in one line; `covers` is what a consent for a time is for."""

    place: str
    covers: str


def find_target(arguments: Mapping[str, object], root: str, digest: str) -> Target:
    """Return the target of a call in a workspace; `digest` is that of its arguments.

    It reads directories that an agent writes, so it may take its time: call it in a thread.
    """
    named = _FINDERS.items() if len(arguments) <= _MOST_ITEMS else ()
    for name, find in named:
        if name in arguments and (found := find(arguments[name], root)) is not None:
            return Target(_bounded(found.place), _bounded(found.covers) + _narrowed(arguments))
    return Target("what its arguments say", f"with these arguments alone ({digest[:16]})")


def _is_read(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= _MOST_READ


def _path(value: object, root: str) -> Target | None:
    if not _is_read(value) or not root or "\0" in value:
        return None
    folder, name = os.path.split(os.path.join(root, value.rstrip("/") or value))  # noqa: PTH118 - keeps `..`
    if name in {"", ".", ".."}:
        whole = os.path.realpath(os.path.join(folder, name))  # noqa: PTH118
        folder, name = os.path.split(whole)
    folder = os.path.realpath(folder)
    return Target(visible(os.path.join(folder, name)) + _kind(folder, name), f"in {visible(folder)}")  # noqa: PTH118


def _kind(folder: str, name: str) -> str:
    path = os.path.join(folder, name)  # noqa: PTH118
    with suppress(OSError, ValueError):
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            return f" (a link to {visible(str(Path(path).readlink()))})"
        return " (a directory)" if stat.S_ISDIR(mode) else ""
    return " (not there)"


def _repo(value: object, root: str) -> Target | None:
    if not _is_read(value) or not root or "\0" in value:
        return None
    place = visible(os.path.realpath(os.path.join(root, value)))  # noqa: PTH118
    return Target(place, f"in {place}")


def _url(value: object, _: str) -> Target | None:
    host = find_host(value)
    return None if host is None else Target(host, f"at {host}")


def _requests(value: object, _: str) -> Target | None:
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_ITEMS:
        return None
    hosts = [find_host(one.get("url")) if isinstance(one, Mapping) else None for one in value]
    methods = {str(one.get("method", "GET")).upper() for one in value if isinstance(one, Mapping)}
    known = sorted({host for host in hosts if host is not None})
    if None in hosts:
        return None
    place = ", ".join(known)
    return Target(place, f"at {place} ({visible(', '.join(sorted(methods)))})")


def find_host(value: object) -> str | None:
    """Return a URL's host and port; None if it has none that is plain: then it is shown and compared as a whole."""
    if not _is_read(value):
        return None
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not host or port is None or parts.username is not None:
        return None
    return f"{visible(host)}:{port}" if ":" not in host else f"[{visible(host)}]:{port}"


def _named(kind: str) -> Callable[[object, str], Target | None]:
    def find(value: object, _: str) -> Target | None:
        if not _is_read(value):
            return None
        place = f"{kind} {visible(value)}"
        return Target(place, f"on {place}")

    return find


_FINDERS: Final[Mapping[str, Callable[[object, str], Target | None]]] = {
    "url": _url,
    "requests": _requests,
    "container": _named("container"),
    "page": _named("page"),
    "path": _path,
    "repo": _repo,
}


def _narrowed(arguments: Mapping[str, object]) -> str:
    words = [visible(name) for name, value in sorted(arguments.items()) if value is True]
    words += [f"{name} {visible(str(arguments[name])[:_MOST_READ])}" for name in _KINDS if name in arguments]
    words += ["paths"] if arguments.get("paths") else []
    return "".join(f", {cut(word, 60)}" for word in words)


def _bounded(text: str) -> str:
    """Cut a long text, and tell it apart from others that are cut alike."""
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{cut(text, _MOST_CHARACTERS)} ({sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]})"
