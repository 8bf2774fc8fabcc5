"""Answer the tools of the category `monitor` that are about subsystems: their state, and the output they have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from epad import EpadError
from epad.answers.status import Status
from epad.formatting.text import clean
from epad.tools.own import OwnCall, OwnToolError, OwnTools
from epad.tools.own_epa import subsystem_of
from runners.tools.services import LogsArgs, LogsResult, ServiceArgs, ServiceResult

MOST_BYTES: Final = 48 << 10
MOST_LINE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Services:
    """Gives the state of all subsystems, and the last lines of one. `lines` raises EpadError."""

    status: Callable[[], Status]
    lines: Callable[[str, int], Awaitable[Sequence[str]]]


def service_tools(services: Services) -> OwnTools:
    """Return the tools."""

    async def service_status(call: OwnCall) -> ServiceResult:
        args, status = call.checked(ServiceArgs), services.status()
        found = subsystem_of(status, args.name)
        if found is None:
            raise _unknown(args.name, status)
        return ServiceResult(
            phase=status["phase"],
            state=found["state"],
            hold=found["hold"]["rung"],
            reason=found["hold"]["reason"],
            restarts=found["restarts"],
        )

    async def logs_tail(call: OwnCall) -> LogsResult:
        args = call.checked(LogsArgs)
        if subsystem_of(status := services.status(), args.subsystem) is None:
            raise _unknown(args.subsystem, status)
        try:
            lines = await services.lines(args.subsystem, args.lines)
        except EpadError as error:
            raise OwnToolError(str(error), "service_status tells its state") from error
        return _fitting([clean(line)[:MOST_LINE] for line in lines])

    return {"service_status": service_status, "logs_tail": logs_tail}


def _fitting(lines: Sequence[str]) -> LogsResult:
    """Keep the last lines that fit."""
    kept: list[str] = []
    room = MOST_BYTES
    for line in reversed(lines):
        room -= 2 * len(line.encode()) + 8  # quotes and backslashes take two bytes each
        if room < 0:
            break
        kept.append(line)
    return LogsResult(lines=kept[::-1], truncated=len(kept) < len(lines))


def _unknown(name: str, status: Status) -> OwnToolError:
    known = ", ".join(sorted(one["name"] for one in status["subsystems"]))
    return OwnToolError(f"there is no subsystem {name[:64]!r}", f"there are: {known}")
