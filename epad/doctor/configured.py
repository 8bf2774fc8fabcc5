"""Check the things that a configuration names: upstreams, their keys, the programs of subsystems, listen addresses."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from epad.configuration.schema import Config, DatastoreConfig, SubsystemConfig, UpstreamConfig
from epad.doctor.finding import Check, Verdict
from epad.gateway.errors import UpstreamError
from epad.gateway.health_check import LOOK_PATHS
from epad.gateway.upstream_key import KEY_STATUSES, key_fields, read_keys, refused_key

CONNECT_SECONDS = 3.0
ASK_SECONDS = 2.0
_PORTS = {"http": 80, "https": 443}


def check_upstreams(upstreams: Mapping[str, UpstreamConfig]) -> Iterator[Check]:
    """Check that each model server accepts a connection, and epad's key."""
    for name, upstream in upstreams.items():
        fix = f"start it, or correct [upstreams.{name}] url"
        try:
            place = _connect(upstream.url)
        except (OSError, ValueError) as error:
            yield Check(f"upstream {name}", Verdict.BROKEN, f"does not take a connection: {error}", fix)
        else:
            yield _ask(name, upstream) or Check(
                f"upstream {name}", Verdict.OK, f"takes connections at {place}"
            )


def _ask(name: str, upstream: UpstreamConfig) -> Check | None:
    """Ask for the list of models; return the fault that the answer names, or None without an answer."""
    parts, path = urlsplit(upstream.url), LOOK_PATHS[upstream.dialects[0]]
    if parts.scheme not in _PORTS or upstream.api_key_secret:  # which the daemon alone opens
        return None
    try:
        key = read_keys({name: upstream}, None)[name]
        shown = key_fields(key, frozenset(upstream.dialects), path)
        fields = {field.decode(): value.decode() for field, value in shown}
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        with closing(kind(parts.hostname or "", parts.port, timeout=ASK_SECONDS)) as connection:
            connection.request("GET", parts.path.rstrip("/").removesuffix("/v1") + path, headers=fields)
            status = connection.getresponse().status
    except (OSError, ValueError, UpstreamError, http.client.HTTPException):
        return None
    if status in KEY_STATUSES:
        found, _, fix = refused_key(name, key).partition(": ")
        return Check(f"upstream {name}", Verdict.BROKEN, f"{found} ({status} on {path})", fix)
    if status >= 500:
        return Check(
            f"upstream {name}", Verdict.LACKING, f"answered {status} on {path}", "is it loading, or ill?"
        )
    return None


def _connect(url: str) -> str:
    """Connect and hang up; return where. Raises OSError, ValueError."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.settimeout(CONNECT_SECONDS)
            end.connect(path)
        return path
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    socket.create_connection((host, port), CONNECT_SECONDS).close()
    return f"{host}:{port}"


def check_keys(upstreams: Mapping[str, UpstreamConfig], environment: Mapping[str, str]) -> Iterator[Check]:
    """Check that each upstream's key can be read, and by no other user."""
    for name, upstream in upstreams.items():
        if upstream.api_key_credential and not environment.get("CREDENTIALS_DIRECTORY"):
            found = "is handed over by systemd when the service starts; it cannot be seen from here"
            yield Check(f"key of {name}", Verdict.ABSENT, found)
        elif upstream.api_key_file:
            yield _key_file(f"key of {name}", Path(upstream.api_key_file))


def _key_file(name: str, path: Path) -> Check:
    try:
        text, mode = path.read_text().strip(), path.stat().st_mode & 0o777
    except (OSError, UnicodeDecodeError) as error:
        return Check(name, Verdict.BROKEN, str(error), f"let the daemon's user read {path}")
    if not text:
        return Check(name, Verdict.BROKEN, f"{path} is empty", f"write the key into {path}")
    if mode & 0o007:
        return Check(name, Verdict.LACKING, f"{path} is open to everyone ({mode:03o})", f"chmod 600 {path}")
    return Check(name, Verdict.OK, f"{path} can be read")


def check_programs(subsystems: Mapping[str, SubsystemConfig]) -> Iterator[Check]:
    """Check that the program of each subsystem exists."""
    for name, spec in subsystems.items():
        if spec.kind != "process" or not spec.command:
            continue
        program = spec.command[0]
        place = Path(spec.working_directory) / program if "/" in program else program
        found = shutil.which(place)
        if found is None:
            fix = f"install it, or correct [subsystems.{name}] command"
            yield Check(f"program of {name}", Verdict.BROKEN, f"there is no {program}", fix)
        else:
            yield Check(f"program of {name}", Verdict.OK, found)


def check_datastores(datastores: Mapping[str, DatastoreConfig]) -> Iterator[Check]:
    """Check that the file of each store that RECOVERY may restore can be renamed, so that the fault shows by day."""
    for name, store in datastores.items():
        if not store.restore:
            continue
        place = Path(store.path).resolve().parent
        if os.access(place, os.W_OK | os.X_OK):
            yield Check(f"datastore {name}", Verdict.OK, f"{place} can be written to by this user")
        else:
            fix = f"let the daemon's user write in {place}, and under systemd name it in ReadWritePaths="
            yield Check(f"datastore {name}", Verdict.LACKING, f"this user cannot write in {place}", fix)


def check_doors(config: Config, runs: bool) -> Iterator[Check]:
    """Check that the daemon's listen addresses are free; a running daemon holds them itself."""
    doors = {
        "gateway": config.gateway.listen,
        "metrics": config.metrics.listen,
        "page": config.web.listen,
    }
    for name, address in doors.items():
        if not address or runs:
            continue
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as end:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                end.bind((host.strip("[]"), int(port)))
            except OSError as error:
                fix = f"see `ss -ltnp`, or set [{'web' if name == 'page' else name}] listen to another"
                yield Check(f"{name} address", Verdict.BROKEN, f"{address}: {error.strerror}", fix)
            else:
                yield Check(f"{name} address", Verdict.OK, f"{address} is free")
