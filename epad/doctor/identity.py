"""Look at what workload identity needs: the extra, the socket, the kernel, and a clock that others share."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from epad.configuration.identity_schema import IdentityConfig
from epad.doctor.finding import Check, Verdict
from epad.doctor.machine import check_clock
from epad.identity.attestation import peer_pidfd
from epad.identity.settings import FIX, agent_path, missing_packages

_NAME: Final = "identity"
_SECONDS: Final = 2.0


def check_identity(
    config: IdentityConfig,
    own: Path,
    *,
    runs: bool,
    missing: Callable[[], Sequence[str]] = missing_packages,
    clock: Callable[[], Iterator[Check]] = check_clock,
) -> Iterator[Check]:
    """Say what is lacking. `own` is the socket of the Workload API of the daemon, where one runs."""
    if not config.enabled:
        yield Check(_NAME, Verdict.ABSENT, "[identity] enabled is false: no subsystem has a SPIFFE id")
        return
    faults = [
        *_missing(missing()),
        *_unreachable(agent_path(config), own, runs=runs),
        *_clock(clock()),
    ]
    yield from faults or [Check(_NAME, Verdict.OK, f"{config.trust_domain}: {_kernel()}")]


def _missing(packages: Sequence[str]) -> Iterator[Check]:
    if packages:
        yield Check(_NAME, Verdict.BROKEN, f"not installed: {', '.join(packages)}", FIX)


def _unreachable(agent: str, own: Path, *, runs: bool) -> Iterator[Check]:
    path = agent or str(own)
    if not agent and not runs:
        return
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(_SECONDS)
            one.connect(path)
    except OSError as error:
        what = "the SPIRE agent of [identity] socket" if agent else "the Workload API"
        fix = "start the agent, or correct [identity] socket" if agent else "epactl identity list says why"
        yield Check(
            _NAME, Verdict.BROKEN, f"{what} does not answer at {path}: {error.strerror or error}", fix
        )


def _clock(checks: Iterator[Check]) -> Iterator[Check]:
    for one in checks:
        if one.verdict is Verdict.LACKING:
            found = (
                f"{one.found}: SVIDs live for 5 and 10 minutes, and a machine with another clock refuses them"
            )
            yield Check(_NAME, Verdict.LACKING, found, one.fix)


def _kernel() -> str:
    """Say how a process is told from another that gets its number."""
    here, there = socket.socketpair()
    with here, there:
        try:
            descriptor = peer_pidfd(here)
        except OSError:
            return "a process is told by its number and start (Linux before 6.5 has no SO_PEERPIDFD)"
    os.close(descriptor)
    return "a process is told by its pidfd"
