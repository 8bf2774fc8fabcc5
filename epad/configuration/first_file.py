"""Compose the first configuration file of a machine, from the model servers that answer there. Pure.

TOML is written by a template: the standard library reads TOML only, and a writer would lose the comments, which are
half of this file's use. `quoted` is the only way by which a text from outside gets into it.
"""

from __future__ import annotations

import glob
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

UNSURE = ("", "generic")
"""Kinds of servers that may ask another one, which may cost money."""
AGENT = "agent"
TOKENS_PER_MINUTE, TOKENS_PER_DAY = 200_000, 20_000_000
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class FoundServer:
    """Describes a model server that answers.

    `kind` is a name of `server_kinds.SERVERS`, empty if nothing tells it; `models` are those it lists. `wants_key`: it
    lists them only to those who have its key.
    """

    url: str
    kind: str = ""
    models: tuple[str, ...] = ()
    wants_key: bool = False

    @property
    def dialects(self) -> tuple[str, ...]:
        return ("openai", "ollama") if self.kind == "ollama" else ("openai",)

    @property
    def is_free(self) -> bool:
        """Tell if its tokens cost nothing: it runs here, and asks nobody else."""
        return self.kind not in UNSURE

    @property
    def word(self) -> str:
        """Name it for a person."""
        return self.kind if self.is_free else "a server of a kind that it does not tell"


@dataclass(frozen=True, slots=True)
class Agent:
    """Describes the program of the subsystem `agent`. An empty `workspace` is epad's own directory for it."""

    command: tuple[str, ...]
    workspace: str = ""
    read: tuple[str, ...] = ()
    notifies: bool = False
    about: str = ""


def first_configuration(servers: Sequence[FoundServer], agent: Agent | None) -> str:
    """Return the text of the file. Without an agent, its table is written as a comment."""
    agent_lines = _agent(agent) if agent else _example()
    parts = [_HEAD, *_upstreams(servers, without_agent=agent is None), "\n".join(agent_lines)]
    return "\n\n".join(parts) + "\n"


def names_of(servers: Sequence[FoundServer]) -> list[str]:
    """Return the name of each server's table; several of one kind are numbered."""
    seen: Counter[str] = Counter()
    names = []
    for plain in map(_plain_name, servers):
        seen[plain] += 1
        names.append(plain if seen[plain] == 1 else f"{plain}-{seen[plain]}")
    return names


def _plain_name(server: FoundServer) -> str:
    if not server.is_free:
        return f"port-{server.url.rpartition(':')[2]}"
    return re.sub(r"[^a-z0-9]+", "-", server.kind)


def quoted(text: str) -> str:
    """Return a text as a basic string of TOML. It is JSON's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _array(texts: Sequence[str], width: int = 160) -> str:
    on_one_line = f"[{', '.join(map(quoted, texts))}]"
    if len(on_one_line) <= width:
        return on_one_line
    return "\n".join(("[", *(f"{_INDENT}{quoted(text)}," for text in texts), "]"))


def _upstreams(servers: Sequence[FoundServer], *, without_agent: bool) -> Iterator[str]:
    open_ones = [server for server in servers if not server.wants_key]
    if not open_ones:
        yield f"{_EMBEDDED}\n{_NO_SERVER}" if without_agent else _NO_SERVER
    for name, server in zip(names_of(servers), servers, strict=True):
        lines = list(_upstream(name, server, takes_rest=_takes_rest(server, open_ones)))
        yield "\n".join(f"# {line}" for line in lines) if server.wants_key else "\n".join(lines)


def _takes_rest(server: FoundServer, servers: Sequence[FoundServer]) -> bool:
    """Tell if a server gets the models that no other names: Ollama, which loads others at any time, or the first."""
    usual = next((one for one in servers if one.kind == "ollama"), servers[0] if servers else server)
    return server is usual or not server.models


def _upstream(name: str, server: FoundServer, *, takes_rest: bool) -> Iterator[str]:
    if server.wants_key:
        yield "It wants a key: write that into a file of yours alone (mode 0600), and take the marks away."
    yield f"[upstreams.{name}]"
    yield f"url = {quoted(server.url)}"
    yield f"dialects = {_array(server.dialects)}"
    if server.wants_key:
        yield f'api_key_file = "/home/me/{name}.key"'
    elif not takes_rest:
        yield f"models = {_array([glob.escape(model) for model in server.models])}"
    if server.is_free:
        yield "free = true    # no price: it runs on your own machine"
    else:
        yield "# free = true  # only if it asks no other server, that costs money"


_HEAD = """\
# Written by `epactl init`. `epad default-config` prints every other key, and the reason for its default.
# After a change: `epad check`, then `epactl reload`.

# A subsystem without a table `confine` is in a workspace too, with every wall or not at all.
[confine]
default = "workspace\""""
_EMBEDDED = """\
# Until a table [upstreams.NAME] or [subsystems.NAME] is here, `epad run` starts embedded models of its own; nothing
# that they say is the result of an LLM."""
_NO_SERVER = """\
# No model server answered. An Ollama, for example:
# [upstreams.ollama]
# url = "http://127.0.0.1:11434"
# dialects = ["openai", "ollama"]
# free = true"""


def _agent(agent: Agent) -> Iterator[str]:
    yield from (f"# {line}" for line in agent.about.splitlines())
    yield f"[subsystems.{AGENT}]"
    yield f"command = {_array(agent.command)}"
    if agent.workspace:
        yield f"working_directory = {quoted(agent.workspace)}"
    if agent.notifies:
        yield "notifies = true"
    yield f"budget = {{ tokens_per_minute = {TOKENS_PER_MINUTE}, tokens_per_day = {TOKENS_PER_DAY} }}"
    yield ""
    yield f"[subsystems.{AGENT}.confine]"
    yield 'profile = "workspace"'
    if agent.workspace:
        yield f"workspace = {quoted(agent.workspace)}"
    if agent.read:
        yield f"read = {_array(agent.read)}"
    yield 'require = "best"    # starts with the walls that this machine has; "all" refuses to start without one'
    yield '# hosts = ["github.com"]    # reached through the way out; every other host does not exist'


def _example() -> Iterator[str]:
    example = Agent(("python3", "agent.py"), "/home/me/agent", about="An agent of yours:")
    yield from (line if line.startswith("#") else f"# {line}".rstrip() for line in _agent(example))
