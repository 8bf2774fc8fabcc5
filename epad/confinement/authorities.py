"""Keep the certificate authorities of cells whose way out reads TLS, and show each cell the bundle that it trusts.

An authority is made by a child before each cell, and ends with the cell. Its key is known to the daemon and the way out
alone. It lies in a file of epad's state, mode 0600, for as long as the cell lives, sealed where this machine seals by
itself: a cell outlives its daemon, and the programs in it have read their bundle by then. No cell sees that directory,
whatever its policy.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
import structlog

from epad.confinement.errors import ConfinementError
from epad.confinement.policy import Policy
from epad.runtime.owner_file import write_for_owner
from epad.secrets.errors import SecretError
from epad.secrets.own_keys import OwnKeys
from runners.egress.messages import Authority

MAKE_SECONDS: Final = 30.0
PACKAGE: Final = "cryptography"
BUNDLE: Final = "bundle.pem"
VARIABLES: Final = (
    *("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO"),
    *("NODE_EXTRA_CA_CERTS", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE", "NIX_SSL_CERT_FILE", "DENO_CERT"),
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)
"""By each of these some program or library is told whom to trust."""
_SUFFIX: Final = ".authority"
_HOME: Final = Path(__file__).parents[2]
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def python_path() -> str:
    """Return the PYTHONPATH of a program of the way out: epad's code, and where the package is, if it is."""
    found = find_spec(PACKAGE)
    places = found.submodule_search_locations if found is not None else None
    return os.pathsep.join(dict.fromkeys((str(_HOME), *(str(Path(place).parent) for place in places or ()))))


def system_bundle(places: Iterable[str] = _BUNDLES) -> str:
    """Return the certificates that this machine trusts; empty where no file has them."""
    known = ssl.get_default_verify_paths()
    for place in (known.cafile, known.openssl_cafile, *places):
        with suppress(OSError, UnicodeDecodeError):
            if place and (text := Path(place).read_text(encoding="utf-8")):
                return text if text.endswith("\n") else f"{text}\n"
    return ""


class Authorities:
    """Keeps the authority of each living cell that has one. `shown` gives the directory that a cell shows."""

    def __init__(self, directory: Path, shown: Callable[[str], Path], keys: OwnKeys | None = None) -> None:
        self._directory = directory
        self._keys = keys
        self._shown = shown
        self._known: dict[str, Authority | None] = {}

    def variables(self, subsystem: str) -> dict[str, str]:
        """Return the variables by which the programs of a cell find its bundle."""
        return dict.fromkeys(VARIABLES, str(self._shown(subsystem) / BUNDLE))

    async def make(self, policy: Policy) -> Path:
        """Make the authority of a cell before it, and return the directory to show. Raises ConfinementError."""
        name, shown = policy.subsystem, self._shown(policy.subsystem)
        authority = await _made(name, sorted(policy.intercept))
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._keep(name, msgspec.json.encode(authority))
            shown.mkdir(parents=True, exist_ok=True)
            for path, mode in ((shown.parent, 0o711), (shown, 0o755)):
                path.chmod(mode)  # another user's programs read it too
            bundle = shown / BUNDLE
            new = bundle.with_suffix(".new")
            new.write_text(system_bundle() + authority.certificate)
            new.chmod(0o644)
            new.replace(bundle)
        except OSError as error:
            raise ConfinementError(f"its certificates cannot be written: {error}", where=name) from error
        self._known[name] = authority
        return shown

    async def load(self) -> None:
        """Open the authorities of cells that have outlived a daemon; one that cannot be opened is told."""
        for path in self._directory.glob(f"*{_SUFFIX}") if self._keys is not None else ():
            name = path.name.removesuffix(_SUFFIX)
            try:
                data = await self._keys.read(path, f"authority-{name}") if self._keys else b""
                self._known[name] = msgspec.json.decode(data, type=Authority)
            except (OSError, SecretError, msgspec.MsgspecError) as error:
                effect = "what its programs send to the hosts of intercept is passed on unread, and nothing filled in"
                structlog.get_logger("epad.confinement").error(
                    "egress.authority_lost", subsystem=name, error=str(error), effect=effect
                )

    def of(self, subsystem: str) -> Authority | None:
        """Return the authority of a living cell; None for one whose tunnels are all passed on unread."""
        if subsystem not in self._known:
            self._known[subsystem] = None
            with suppress(OSError, msgspec.MsgspecError):
                self._known[subsystem] = msgspec.json.decode(
                    self._path(subsystem).read_bytes(), type=Authority
                )
        return self._known[subsystem]

    def forget(self, subsystem: str) -> None:
        """Delete the authority of a cell that is no more."""
        self._known[subsystem] = None
        for path in (self._path(subsystem), self._shown(subsystem) / BUNDLE):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    async def _keep(self, subsystem: str, data: bytes) -> None:
        if self._keys is None:
            write_for_owner(self._path(subsystem), data)
        else:
            await self._keys.keep(self._path(subsystem), f"authority-{subsystem}", data)

    def _path(self, subsystem: str) -> Path:
        return self._directory / f"{subsystem}{_SUFFIX}"


async def _made(cell: str, hosts: Iterable[str]) -> Authority:
    """Have a child make an authority, since its library would stay in the daemon. Raises ConfinementError."""
    try:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-S", "-m", "runners.egress.authority", cell, *hosts),
            env={"PATH": os.defpath, "PYTHONPATH": python_path()},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(MAKE_SECONDS):
                said, complaint = await child.communicate()
        except BaseException:
            child.kill()
            raise
    except (OSError, TimeoutError) as error:
        raise ConfinementError(f"its certificate authority could not be made: {error}", where=cell) from error
    if child.returncode != 0:
        reason = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        fix = "pip install 'epad[intercept]', or take intercept out of its table confine"
        raise ConfinementError(
            f"its certificate authority could not be made: {reason}", fix, where=cell, permanent=True
        )
    return msgspec.convert(json.loads(said), Authority)
