"""Define the tools of `monitor` that a worker does: is a host well, and since when does this machine run."""

from __future__ import annotations

import ctypes
import time
from datetime import UTC, datetime
from typing import Annotated, Final

from msgspec import Meta

from runners.egress.rules import RuleError, host_name, port_number
from runners.tools import way_out
from runners.tools.signature import Args, Result, ToolError, meta
from runners.tools.way_out import Clock
from runners.tools.web_address import read_address
from runners.tools.web_exchange import WebRequest, ask

_LOAD_SCALE: Final = 1 << 16


class HealthArgs(Args, frozen=True, kw_only=True):
    """Names an address of the web, or a host and port that must take a connection; one of the two."""

    url: str | None = None
    tcp: str | None = None
    seconds: Annotated[float, Meta(gt=0, le=20)] = 5


class HealthResult(Result, frozen=True):
    """Holds a health; `status` is HTTP's, 0 without one. `why` is empty where it is well."""

    healthy: bool
    status: int
    milliseconds: float
    why: str


HEALTH_PROBE: Final = meta(
    "health_probe",
    HealthArgs,
    HealthResult,
    risk="N1",
    timeout=25,
    description="Tell if an allowed host answers: a URL below 400, or HOST:PORT by a connection.",
    examples=({"url": "https://www.example/page"}, {"tcp": "www.example:443"}),
)


@HEALTH_PROBE.tool
async def health_probe(args: HealthArgs) -> HealthResult:
    """Ask once. A host that may not be asked is an error, since nothing is known of its health."""
    clock, began, status, why = Clock(args.seconds), time.monotonic(), 0, ""
    try:
        match args.url, args.tcp:
            case str(url), None:
                status = ask(WebRequest(read_address(url)), clock).status
                why = f"it answers {status}" if status >= 400 else ""
            case None, str(place):
                way_out.reach(_authority(place), clock)
            case _:
                raise ToolError("not one place", "give one of url and tcp")
    except way_out.NotReachedError as error:
        why = error.message
    milliseconds = round(1000 * (time.monotonic() - began), 1)
    return HealthResult(healthy=not why, status=status, milliseconds=milliseconds, why=why)


def _authority(text: str) -> str:
    """Return `host:port` as a proxy is asked for it. Raises ToolError."""
    place, _, digits = text.rpartition(":")
    try:
        host, port = host_name(place), port_number(digits)
    except RuleError as error:
        raise ToolError(str(error), "give HOST:PORT, as db.example:5432") from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class UptimeArgs(Args, frozen=True):
    """Takes nothing."""


class UptimeResult(Result, frozen=True):
    """Holds seconds since the machine's start, its loads over 1, 5 and 15 minutes, and the start in UTC."""

    uptime: int
    load: list[float]
    boot: str


UPTIME_CHECK: Final = meta(
    "uptime_check",
    UptimeArgs,
    UptimeResult,
    risk="R2",
    timeout=5,
    description="Show how long this machine has run, and its load.",
    examples=({},),
)


class _SystemInformation(ctypes.Structure):
    """Is the kernel's `struct sysinfo`, as far as it is read here; the kernel writes no more than 128 bytes."""

    _fields_ = (
        ("uptime", ctypes.c_long),
        ("loads", ctypes.c_ulong * 3),
        ("rest", ctypes.c_char * 256),
    )


_C: Final = ctypes.CDLL(None, use_errno=True)


@UPTIME_CHECK.tool
async def uptime_check(args: UptimeArgs) -> UptimeResult:
    """Ask the kernel by sysinfo(2), since a call reads no file."""
    del args
    told = _SystemInformation()
    if _C.sysinfo(ctypes.byref(told)):
        raise ToolError(f"sysinfo failed: error {ctypes.get_errno()}", "")
    boot = datetime.fromtimestamp(time.time() - told.uptime, UTC).isoformat(timespec="seconds")
    return UptimeResult(
        uptime=told.uptime, load=[round(each / _LOAD_SCALE, 2) for each in told.loads], boot=boot
    )
