"""The commands that look at this machine and its files, daemon or no daemon: `doctor` and `config show`."""

from __future__ import annotations

from epad.api.client import ClientError, UnknownNameError
from epad.epactl import render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from epad.answers.status import Status

_PAINT = {"ok": "green", "absent": "dim", "lacking": "yellow", "broken": "red"}


def doctor(call: Call) -> int:
    """`epactl doctor [--config FILE] [--state DIR]`: of a daemon that runs, its own configuration and state."""
    from dataclasses import asdict  # noqa: PLC0415

    from epad.doctor.examine import examine  # noqa: PLC0415

    daemon = _daemon(call)
    chosen = _path(call.arguments.config or (daemon and daemon["config_file"]))
    state = _path(call.arguments.state or (daemon and daemon["state_directory"]))
    checks = [asdict(check) for check in examine(chosen, state, call.environment, _who(daemon))]
    call.terminal.show(checks, doctor_lines(checks, call.terminal.style))
    return EXIT_FAILED if any(check["verdict"] == "broken" for check in checks) else EXIT_OK


def doctor_lines(checks: list[dict[str, Any]], style: render.Style) -> list[str]:
    """Format one line a check, its fix below it, and the sum of all."""
    width = max(len(check["name"]) for check in checks)
    lines = []
    for check in checks:
        verdict = style.paint(f"{check['verdict']:<7}", _PAINT[check["verdict"]])
        lines.append(f"{verdict}  {clean(check['name']):<{width}}  {clean(check['found'])}")
        if check["fix"]:
            lines.append(f"{'':<7}  {'':<{width}}  -> {clean(check['fix'])}")
    count = {verdict: sum(check["verdict"] == verdict for check in checks) for verdict in _PAINT}
    return [*lines, "", ", ".join(f"{number} {verdict}" for verdict, number in count.items() if number)]


def config_show(call: Call) -> int:
    """`epactl config show [--config FILE] [PREFIX]`: of a daemon that runs, its own. Raises UnknownNameError."""
    from epad.configuration.effective import effective, known_below  # noqa: PLC0415
    from epad.configuration.load import ConfigError, find, read  # noqa: PLC0415

    daemon = None if call.arguments.config else _daemon(call)
    try:
        loaded = read(find(_path(call.arguments.config or (daemon and daemon["config_file"]))))
    except ConfigError as error:
        for problem in error.problems:
            call.terminal.say(str(problem))
        return EXIT_FAILED
    prefix = call.arguments.prefix or ""
    shown = [one for one in effective(loaded) if one.key.startswith(prefix)]
    if not shown and not any(table.startswith(prefix) for table in loaded.config.__struct_fields__):
        known = ", ".join(known_below(loaded, prefix))
        raise UnknownNameError(f"there is no key that begins with {prefix!r}", f"there are: {known}")
    files = ", ".join(map(str, loaded.files)) or "no file: the shipped defaults"
    whose = f"{_who(daemon)} reads " if daemon else ""
    lines = [clean(one) for one in (f"# {whose}{files}", *shown)]
    call.terminal.show([one._asdict() for one in shown], lines)
    return EXIT_OK


def _path(text: str | None) -> Path | None:
    from pathlib import Path  # noqa: PLC0415

    return Path(text) if text else None


def _daemon(call: Call) -> Status | None:
    """Return the status of the daemon at the control socket; None if none answers."""
    try:
        status: Status = call.client.get(Operation.STATUS_READ.path)
    except ClientError:
        return None
    return status


def _who(daemon: Status | None) -> str:
    return f"epad {daemon['version']}, pid {daemon['pid']}, phase {daemon['phase']}," if daemon else ""
