"""Configure `epad run` without a configuration: a model server, a wargame and a chat client of its own.

Each is confined as far as this machine can: in a container without namespaces they run all the same, and `status` names
the walls that are missing.

No language model runs here. The embedded model server answers from small in-process models without weights,
and everything that shows one of its results says so.
"""

from __future__ import annotations

import sys
from pathlib import Path

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.directories import Directories
from epad.configuration.schema import (
    BudgetConfig,
    Config,
    RestartConfig,
    StateConfig,
    SubsystemConfig,
    UpstreamConfig,
)

NOTICE = "embedded models answer here: nothing they say is the result of an LLM"
# Tokens a minute. At its pace the wargame uses about 85,000 and the chat client about 2,000 (read off
# `epactl status` after a minute on two cores); a looping chat client reaches its budget within seconds.
WARGAME_BUDGET = 400_000
CHAT_BUDGET = 8_000
WARGAME_ROUNDS = 1_000
# Not reportable, and paused past its limit: what a run came to, which another start would not change.
WARGAME_VERDICTS = (5, 6)
LOOP_SWITCH = "loop"
_RUNNERS = Path(__file__).parents[2] / "runners"
"""The programs of these subsystems."""


def with_embedded_default(config: Config, directories: Directories) -> Config:
    """Return `config` with the embedded subsystems, if it has none of its own."""
    if config.subsystems or config.upstreams:
        return config
    # In the model server's own directory: it can make none elsewhere.
    socket = directories.work("model") / "model.sock"
    upstream = UpstreamConfig(
        url=f"unix:{socket}",
        dialects=("openai", "ollama"),
        models=("embedded-*",),
        embedded=True,
        served_by="model",
    )
    python = (sys.executable, "-m")
    confine = ConfineConfig(read=runner_files(), require="best")
    server = ConfineConfig(profile="gateway-only", require="best")
    subsystems = {
        "model": SubsystemConfig(
            command=(*python, "runners.model", "--listen", f"unix:{socket}", "--latency-ms", "20"),
            essential=True,
            gateway=False,
            notifies=True,
            confine=server,
        ),
        "wargame": SubsystemConfig(
            command=(*python, "runners.wargame", "run", "--rounds", str(WARGAME_ROUNDS), "--pace", "2"),
            depends_on=("model",),
            notifies=True,
            budget=BudgetConfig(tokens_per_minute=WARGAME_BUDGET, max_in_flight=16),
            restart=RestartConfig(success_exit_codes=(0, *WARGAME_VERDICTS)),
            state=StateConfig(databases=("wargame.db",)),
            background=True,
            confine=confine,
        ),
        "chat": SubsystemConfig(
            command=(*python, "runners.chat", "--interval", "2", "--loop-while", LOOP_SWITCH),
            depends_on=("model",),
            notifies=True,
            budget=BudgetConfig(tokens_per_minute=CHAT_BUDGET),
            confine=confine,
        ),
    }
    return _with(config, upstream, subsystems)


def runner_files() -> tuple[str, ...]:
    """Return the directories that a confined runner of epad's must be able to read."""
    return (str(_RUNNERS), *_libraries())


def _libraries() -> list[str]:
    """List the directories that this Python imports packages from: a path file may name some far from the Python."""
    return [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]


def _with(config: Config, upstream: UpstreamConfig, subsystems: dict[str, SubsystemConfig]) -> Config:
    fields = {name: getattr(config, name) for name in config.__struct_fields__}
    return Config(**{**fields, "upstreams": {"embedded": upstream}, "subsystems": subsystems})
