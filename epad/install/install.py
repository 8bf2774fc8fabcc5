"""Install and uninstall epad as a service: refuse, or work step by step and name the next step.

A second run changes nothing; a run of another version upgrades. Files that a person has changed are left alone.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epad.install import files
from epad.install.target import InstallError, Target, read

USER = "epad"
# Made anew for each service that has PrivateTmp=yes: what lies there is not there for the daemon.
_PRIVATE = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108
_UNKNOWN_NUMBER = 0  # of a user who is not there yet; only a rehearsal comes so far
_KEPT = ("/etc/epad", "/var/lib/epad", "/var/log/epad")


def install(target: Target, program: Path, manual: str, *, now: bool = False) -> None:
    """Write the files that make epad a service, and start it if `now`. Raises InstallError, OSError."""
    _check_rights(target, "install")
    if target.is_this_machine:
        _check_systemd()
    _check_reachable(program)
    _check_untouched(target)
    _make_user(target)
    target.touch(files.CONFIGURATION, files.EMPTY_CONFIGURATION, 0o640)
    _write_service(target, program, manual)
    target.run("systemd-tmpfiles", *_rooted(target), "--create", str(target.at(files.TMPFILES)))
    if target.is_this_machine:
        target.run("systemctl", "daemon-reload")
    if now:
        target.run("systemctl", *_rooted(target), "enable", "epad.service")
        if target.is_this_machine:
            target.run("systemctl", "restart", "epad.service")
    for text in _next_steps(target, now=now):
        target.say("next", text)


def uninstall(target: Target) -> None:
    """Stop the service and remove the files of `install`; configuration, state and user stay. Raises InstallError."""
    _check_rights(target, "uninstall")
    runs = target.is_this_machine and Path("/run/systemd/system").is_dir()
    if target.at(files.UNIT).exists() and (runs or not target.is_this_machine):
        now = ["--now"] if runs else []
        target.run("systemctl", *_rooted(target), "disable", *now, "epad.service")
    changed = target.changed_by_hand(files.every_path())
    for path in files.every_path():
        if target.at(path) in changed:
            target.say("keep", f"{target.at(path)}: changed by hand")
        else:
            target.remove(path)
    target.remove(files.LINGER)
    for name in files.COMMANDS:
        target.unlink(f"{files.COMMAND_DIRECTORY}/{name}")
    number = target.number_of(USER)
    if runs:
        target.run("systemctl", "daemon-reload")
        if number is not None:
            target.run("systemctl", "stop", f"user@{number}.service")
    left = [str(target.at(path)) for path in _KEPT if target.at(path).exists()]
    for path in left:
        target.say("keep", path)
    rest = [f"rm -r {' '.join(left)}"] if left else []
    rest += [f"userdel {USER}"] if number is not None else []
    if rest:
        target.say("next", f"to lose configuration, state and ledger too: {'; '.join(rest)}")


def program_that_runs() -> Path:
    """Return the `epad` of the interpreter that runs this. Raises InstallError."""
    called = Path(sys.argv[0]).absolute()
    program = called if called.name == "epad" else Path(sysconfig.get_path("scripts")) / "epad"
    for path in (program, program.with_name("epactl")):
        if not os.access(path, os.X_OK):
            raise InstallError(f"{path}: not there; install epad with pip, and run the `epad` that it makes")
    return program


def _check_rights(target: Target, verb: str) -> None:
    if os.geteuid() != 0 and not target.rehearsal:
        raise InstallError(
            f"{verb}: you are not root; run it with sudo, or see with --dry-run what it would do"
        )


def _check_systemd() -> None:
    if not Path("/run/systemd/system").is_dir():
        raise InstallError(
            "systemd does not run here; --root DIR writes for another system, `epad run` needs no service"
        )


def _check_reachable(program: Path) -> None:
    """Refuse an epad that user epad could not start. Raises InstallError."""
    pip = "python3 -m venv /opt/epad, /opt/epad/bin/pip install CLONE_OR_WHEEL"
    fix = f"{pip}, then /opt/epad/bin/epad {' '.join(sys.argv[1:])}"
    interpreter = Path(sys.executable)
    for path in (program, interpreter, interpreter.resolve(), Path(__file__)):
        for above in path.parents:
            if not above.stat().st_mode & 0o001:
                raise InstallError(f"{path}: user epad may not pass {above}; install it elsewhere: {fix}")
        if any(path.is_relative_to(private) for private in _PRIVATE):
            raise InstallError(f"{path}: a service has a /tmp of its own; install it elsewhere: {fix}")


def _check_untouched(target: Target) -> None:
    changed = target.changed_by_hand(files.every_path())
    if changed:
        raise InstallError(
            f"{', '.join(map(str, changed))}: not as `epad install` wrote it; put what is yours into a drop-in "
            f"({target.at(files.DROP_INS)}/90-mine.conf), move it away, and install again"
        )


def _make_user(target: Target) -> None:
    for file in files.first_files():
        target.write(file)
    target.run("systemd-sysusers", *_rooted(target), str(target.at(files.SYSUSERS)))


def _write_service(target: Target, program: Path, manual: str) -> None:
    number = target.number_of(USER)
    if number is None and not target.rehearsal:
        raise InstallError(f"{target.at('/etc/passwd')}: systemd-sysusers has made no user {USER}")
    units = sorted(_commanded_units(target))
    polkit = target.at(files.POLKIT_DIRECTORY).is_dir()
    try:
        every = files.service_files(
            program, _UNKNOWN_NUMBER if number is None else number, units if polkit else [], manual
        )
    except ValueError as error:
        raise InstallError(str(error)) from error
    for file in every:
        target.write(file)
    if not (units and polkit):
        target.remove(files.POLKIT)
    if units and not polkit:
        target.say("skip", f"no polkit here, so epad may only look at {', '.join(units)} (docs/systemd.md)")
    target.touch(files.LINGER, "", 0o644)
    for name in files.COMMANDS:
        target.link(f"{files.COMMAND_DIRECTORY}/{name}", program.with_name(name))


def _commanded_units(target: Target) -> Iterator[str]:
    """The units that the configuration names: read as it is, since only `epad check` there can judge it."""
    main = target.at(files.CONFIGURATION)
    for file in (main, *sorted(main.with_name("epad.toml.d").glob("*.toml"))):
        try:
            subsystems: Any = tomllib.loads(read(file)).get("subsystems", {})
        except tomllib.TOMLDecodeError as error:
            raise InstallError(f"{file}: {error}; `epad check` says where") from error
        tables = subsystems.values() if isinstance(subsystems, dict) else ()
        yield from (
            str(t["unit"]) for t in tables if isinstance(t, dict) and t.get("kind") == "unit" and "unit" in t
        )


def _next_steps(target: Target, *, now: bool) -> Iterator[str]:
    if not target.at("/usr/lib/systemd/user/dbus.socket").exists():
        yield "apt install dbus-user-session: the manager of user epad needs a bus"
    yield f"put what differs from `epad default-config` into {target.at(files.CONFIGURATION)}, then `epad check`"
    if now:
        yield "epactl status"
    else:
        yield "systemctl enable epad.service && systemctl restart epad.service"
    yield f"people who may give orders: [control] operator_group; examples: {target.at(files.DROP_INS)}/*.example"


def _rooted(target: Target) -> list[str]:
    return [] if target.is_this_machine else [f"--root={target.root}"]
