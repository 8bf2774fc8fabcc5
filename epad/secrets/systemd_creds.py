"""Seal by systemd-creds: with this machine's TPM2, or with its host key. The secret's name is bound in.

`systemd-creds` of root opens both by itself. Another user's needs access to the TPM (group `tss`); of the host key only
systemd 256 or later lets one seal, through its own service.

To seal by the host key makes `/var/lib/systemd/credential.secret` where there is none: nothing here asks before a
secret is to be kept that way.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from epad.secrets import programs
from epad.secrets.errors import NoSealingError
from epad.secrets.sealed_file import damaged

PROGRAM: Final = "systemd-creds"
HOST_KEY: Final = "/var/lib/systemd/credential.secret"
USERS_VERSION: Final = 256
"""From this version on `systemd-creds --user` seals for a user that is not root."""
_TPM: Final = Path("/dev/tpmrm0")
_VERSION: Final = re.compile(r"systemd (\d+)")
_PREFIX: Final = "epad-secret-"


class SystemdCreds:
    """Seals and opens by `key`, which is `tpm2` or `host`. One at a time: a TPM has few sessions."""

    def __init__(self, key: str, environment: Mapping[str, str]) -> None:
        self.key = key
        self._environment = environment
        self._turn = asyncio.Lock()

    async def seal(self, name: str, payload: bytes) -> bytes:
        """Return the payload sealed under a name. Raises NoSealingError."""
        done = await self._run("encrypt", name, f"--with-key={self.key}", given=payload)
        try:
            if done.status == 0:
                return base64.b64decode(b"".join(done.output.split()), validate=True)
        except ValueError:
            pass
        raise NoSealingError(
            f"{PROGRAM} seals nothing by {self.key}: {_last(done.complaint)}", self.missing()
        )

    async def open(self, name: str, sealed: bytes) -> bytes:
        """Return what was sealed under a name. Raises DamagedError."""
        done = await self._run("decrypt", name, given=base64.b64encode(sealed))
        if done.status != 0:
            where = "the TPM" if self.key == "tpm2" else "the host key"
            why = f"{where} of this machine does not open it: {_last(done.complaint)}"
            raise damaged(name, why)
        return done.output

    def missing(self) -> str:
        """Say what is lacking to seal this way; empty if nothing is. Asks nothing that has a side effect."""
        if shutil.which(PROGRAM, path=self._environment.get("PATH", os.defpath)) is None:
            return f"{PROGRAM} is not installed"
        if self.key == "tpm2":
            return self._missing_tpm()
        if os.geteuid() != 0 and version(self._environment) < USERS_VERSION:
            return f"the host key is root's, and {PROGRAM} lets users seal from systemd {USERS_VERSION} on"
        return ""

    def would_make_key(self) -> bool:
        """Tell if the next sealing makes the host key."""
        file = self._environment.get("SYSTEMD_CREDENTIAL_SECRET", HOST_KEY)
        return self.key == "host" and os.geteuid() == 0 and not Path(file).exists()

    def _missing_tpm(self) -> str:
        if self._environment.get("SYSTEMD_TPM2_DEVICE"):
            return ""
        if not _TPM.exists():
            return f"there is no TPM2: {_TPM} is not there"
        if not os.access(_TPM, os.R_OK | os.W_OK):
            return f"{_TPM} is not for this user: SupplementaryGroups=tss and DeviceAllow={_TPM} rw give it"
        return ""

    async def _run(self, verb: str, name: str, *more: str, given: bytes) -> programs.Ended:
        words = [PROGRAM, verb, f"--name={_PREFIX}{name}", *more]
        if device := self._environment.get("SYSTEMD_TPM2_DEVICE"):
            words.append(f"--tpm2-device={device}")
        if os.geteuid() != 0 and self.key == "host":
            words.append("--user")
        async with self._turn:
            return await programs.run([*words, "-", "-"], given, self._environment)


def version(environment: Mapping[str, str]) -> int:
    """Return the version of systemd-creds; 0 if it tells none."""
    try:
        done = subprocess.run(
            [PROGRAM, "--version"],
            env=programs.kept(environment),
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    found = _VERSION.match(done.stdout)
    return int(found[1]) if found else 0


def _last(complaint: str) -> str:
    return complaint.rpartition("\n")[2][:200] or "it gives no reason"
