"""The commands that look at this machine and its files, daemon or no daemon: `doctor` and `config show`."""

from __future__ import annotations

from epad.control import render
from epad.control.client import ClientError
from epad.ctl_commands import EXIT_FAILED, EXIT_OK, Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

_PAINT = {"ok": "green", "absent": "dim", "lacking": "yellow", "broken": "red"}


def doctor(call: Call) -> int:
    """`epactl doctor [--config FILE] [--state DIR]`."""
    from dataclasses import asdict  # noqa: PLC0415

    from epad.doctor.examine import examine  # noqa: PLC0415

    chosen, state = _path(call.arguments.config), _path(call.arguments.state)
    checks = [asdict(check) for check in examine(chosen, state, call.environment, _daemon(call))]
    call.terminal.show(checks, doctor_lines(checks, call.terminal.style))
    return EXIT_FAILED if any(check["verdict"] == "broken" for check in checks) else EXIT_OK


def doctor_lines(checks: list[dict[str, Any]], style: render.Style) -> list[str]:
    """One line a check, its fix below it, and the sum of it."""
    width = max(len(check["name"]) for check in checks)
    lines = []
    for check in checks:
        verdict = style.paint(f"{check['verdict']:<7}", _PAINT[check["verdict"]])
        lines.append(f"{verdict}  {render.clean(check['name']):<{width}}  {render.clean(check['found'])}")
        if check["fix"]:
            lines.append(f"{'':<7}  {'':<{width}}  -> {render.clean(check['fix'])}")
    count = {verdict: sum(check["verdict"] == verdict for check in checks) for verdict in _PAINT}
    return [*lines, "", ", ".join(f"{number} {verdict}" for verdict, number in count.items() if number)]


def config_show(call: Call) -> int:
    """`epactl config show [--config FILE] [PREFIX]`."""
    from epad.config_load import ConfigError, find, read  # noqa: PLC0415
    from epad.config_show import effective  # noqa: PLC0415

    try:
        loaded = read(find(_path(call.arguments.config)))
    except ConfigError as error:
        for problem in error.problems:
            call.terminal.say(str(problem))
        return EXIT_FAILED
    prefix = call.arguments.prefix or ""
    shown = [one for one in effective(loaded) if one.key.startswith(prefix)]
    call.terminal.show([one._asdict() for one in shown], [render.clean(one) for one in shown])
    return EXIT_OK


def _path(text: str | None) -> Path | None:
    from pathlib import Path  # noqa: PLC0415

    return Path(text) if text else None


def _daemon(call: Call) -> str:
    """What answers at the control socket; empty if nothing does."""
    try:
        status = call.client.get("/v1/status")
    except ClientError:
        return ""
    return f"epad {status['version']}, pid {status['pid']}, phase {status['phase']},"
