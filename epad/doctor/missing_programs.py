"""Find the things a configuration names that do not exist, or that lead back to epad. Used by `epad check`.

None of it keeps the daemon from starting: a program may be installed later, and its subsystem alone waits for it.
"""

from __future__ import annotations

import grp
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from epad.configuration.complaint import Complaint
from epad.configuration.schema import Config, SubsystemConfig
from epad.configuration.shell_words import shell_check
from epad.configuration.toml_lines import KeyPath
from epad.configuration.urls import base_fault, leads_to, shown
from epad.configuration.vain_values import vain_check
from epad.doctor.confinement import confinement_check
from epad.supervisor.launch import inherited


def world_check(config: Config, environment: Mapping[str, str]) -> Iterator[Complaint]:
    """Yield everything named that does not exist, leads back to epad, or is mistaken for another thing."""
    for name, spec in config.subsystems.items():
        yield from _check_subsystem(("subsystems", name), spec, environment)
    yield from _check_files(config)
    yield from _check_circles(config)
    yield from shell_check(config)
    yield from vain_check(config)
    yield from confinement_check(config, environment)


def _check_subsystem(
    path: KeyPath, spec: SubsystemConfig, environment: Mapping[str, str]
) -> Iterator[Complaint]:
    directory = Path(spec.working_directory)
    if spec.kind == "process" and spec.working_directory.startswith("/") and not directory.is_dir():
        yield Complaint((*path, "working_directory"), f"is {directory}, which is no directory; make it")
    elif spec.working_directory and not spec.working_directory.startswith(("/", "~", "$")):
        text = f"is {directory}, below wherever the daemon is started; give it from the root"
        yield Complaint((*path, "working_directory"), text)
    elif why := _missing_program(spec, environment):
        yield Complaint((*path, "command"), why)
    workspace = spec.confine.workspace if spec.confine else ""
    if workspace and not Path(workspace).expanduser().is_dir():
        yield Complaint((*path, "confine", "workspace"), f"is {workspace}, which is no directory; make it")


def _check_files(config: Config) -> Iterator[Complaint]:
    """Yield the reasons for which the daemon could not start on this machine, though each key is valid by itself."""
    for name, upstream in config.upstreams.items():
        if upstream.tokenizer and not os.access(upstream.tokenizer, os.R_OK):
            text = f"is {upstream.tokenizer}, which is not there or cannot be read; give its tokenizer.json"
            yield Complaint(("upstreams", name, "tokenizer"), text)
    group = config.control.operator_group
    try:
        if group:
            grp.getgrnam(group)
    except KeyError:
        text = f"names {group}, a group that is not here; `groupadd {group}`, or leave it empty"
        yield Complaint(("control", "operator_group"), text)


def _check_circles(config: Config) -> Iterator[Complaint]:
    """Yield the addresses that are meant for another server and would reach epad itself."""
    doors = {
        f"subsystems.{name}.listen": spec.listen for name, spec in config.subsystems.items() if spec.listen
    }
    gateway = {"[gateway]": config.gateway.listen, **doors}
    others = {"[web]": config.web.listen, "[metrics]": config.metrics.listen}
    for name, upstream in config.upstreams.items():
        path = ("upstreams", name, "url")
        for where, listen in gateway.items():
            if leads_to(upstream.url, listen):
                text = f"is {shown(upstream.url)}, where {where} listens: a turn would ask itself; name a model server"
                yield Complaint(path, text)
        for where, listen in others.items():
            if listen and leads_to(upstream.url, listen):
                text = f"is {shown(upstream.url)}, where {where} of epad listens: name the model server"
                yield Complaint(path, text)
        if fault := base_fault(upstream.url):
            yield Complaint(path, fault)
    for name, spec in config.subsystems.items():
        asked = spec.health.http or (f"http://{spec.health.tcp}" if spec.health.tcp else "")
        where = next((where for where, at in {**gateway, **others}.items() if at and leads_to(asked, at)), "")
        if asked and where:
            text = f"asks {where} of epad itself, which tells nothing of {name}; ask its own address"
            yield Complaint(("subsystems", name, "health", "http" if spec.health.http else "tcp"), text)


def _missing_program(spec: SubsystemConfig, environment: Mapping[str, str]) -> str:
    """Return the reason for which a subsystem's program could not be started; empty if it could."""
    if spec.kind != "process" or not spec.command:
        return ""
    program = spec.command[0]
    given = {**inherited(environment), **spec.environment}
    if program.startswith(("~", "$")):
        return ""  # said in words of its own
    if "/" in program:
        return _missing_file(program, spec.working_directory)
    if shutil.which(program, path=given.get("PATH", os.defpath)):
        return ""
    fix = "write each argument as a text of its own" if " " in program.strip() else "give its whole path"
    return f"names {program}, which is in none of PATH ({given.get('PATH', os.defpath)}); {fix}"


def _missing_file(program: str, directory: str) -> str:
    path = Path(directory or ".") / program
    if (directory == "" and not path.is_absolute()) or os.access(path, os.X_OK):
        return ""  # from the subsystem's own directory, which is made at its first start
    if path.exists():
        return f"names {program}, which may not be run; chmod +x {path}"
    return f"names {program}, which is not there; correct it, or install it"
