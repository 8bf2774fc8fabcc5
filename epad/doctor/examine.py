"""The whole examination, in the order a person reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import structs

from epad.configuration.directories import Directories, resolve
from epad.configuration.load import ConfigError, find, load
from epad.configuration.schema import Config
from epad.doctor import cells, configured, disk, encryption, gpus, identity, machine, tools
from epad.doctor.finding import Check, Verdict, look
from epad.supervisor.engine_choice import would_use


def examine(
    chosen: Path | None, state: Path | None, environment: Mapping[str, str], daemon: str
) -> Iterator[Check]:
    """Examine everything. `daemon` describes the running daemon; empty if there is none."""
    found = f"{daemon} runs" if daemon else "none runs"
    yield Check("daemon", Verdict.OK if daemon else Verdict.ABSENT, found)
    try:
        files = find(chosen)
        config = load(*files)
    except ConfigError as error:
        for problem in error.problems:
            yield Check(
                "configuration", Verdict.BROKEN, str(problem), "correct it; `epad check` tells all of it"
            )
        config = load()
    else:
        named = ", ".join(map(str, files)) or "no file: the shipped defaults"
        yield Check("configuration", Verdict.OK, named)
    yield from _of_machine(config, environment)
    place = state or resolve(config.daemon, environment).state
    yield from _of_configured(config, place, environment, runs=bool(daemon))


def _of_machine(config: Config, environment: Mapping[str, str]) -> Iterator[Check]:
    managed = Path("/run/systemd/system").is_dir()
    yield from look("systemd", lambda: machine.check_systemd(environment, os.geteuid()))
    yield from look("cgroups", lambda: machine.check_cgroups(managed))
    yield from look("engine", lambda: [_engine(config, environment)])
    yield from look("cells", cells.check_cells)
    yield from look("pressure", machine.check_pressure)
    yield from look("clock", machine.check_clock)
    yield from look("process", machine.check_process)
    yield from look("gpus", lambda: gpus.check_gpus(Path(config.probes.vram.root)))


def _of_configured(
    config: Config, state: Path, environment: Mapping[str, str], *, runs: bool
) -> Iterator[Check]:
    yield from look("state", lambda: disk.check_state(state, config.probes.host))
    yield from look("encryption", lambda: encryption.check_encryption(state))
    yield from look("secrets", lambda: encryption.check_sealing(state, environment))
    yield from look("doors", lambda: configured.check_doors(config, runs))
    yield from look("upstreams", lambda: configured.check_upstreams(config.upstreams))
    yield from look("keys", lambda: configured.check_keys(config.upstreams, environment))
    yield from look("programs", lambda: configured.check_programs(config.subsystems))
    yield from look("tools", lambda: tools.check_tools(config))
    own = _directories(config, state, environment).identity_socket
    yield from look("identity", lambda: identity.check_identity(config.identity, own, runs=runs))
    yield from look("datastores", lambda: configured.check_datastores(config.datastores))


def _directories(config: Config, state: Path, environment: Mapping[str, str]) -> Directories:
    daemon = structs.replace(config.daemon, state_directory=str(state))
    found = resolve(config.daemon, environment)
    return found if found.state == state else resolve(daemon, environment)


def _engine(config: Config, environment: Mapping[str, str]) -> Check:
    engine = would_use(config.daemon, environment)
    broken = engine.startswith("none:")
    fix = 'set daemon.engine to "auto" or "plain"' if broken else ""
    return Check("engine", Verdict.BROKEN if broken else Verdict.OK, engine, fix)
