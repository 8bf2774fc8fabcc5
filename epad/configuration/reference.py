"""docs/configuration.md, written from the types, the shipped defaults and their comments.

`python -m epad.configuration.reference > docs/configuration.md` writes it anew; a test keeps the two together.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Annotated, Any, get_args, get_origin

import msgspec

from epad.configuration.describe import describe, shown
from epad.configuration.fields import fields_of
from epad.configuration.schema import Config
from epad.configuration.toml_lines import key_lines

HEAD = """# Configuration

Written by `python -m epad.configuration.reference` from the types that the daemon reads it into; do not edit it.

The layers are the shipped defaults, then `/etc/epad/epad.toml` (or the file that `--config` names), then
`epad.toml.d/*.toml` beside it, by name. Tables are merged key by key, the last layer that sets a key wins, and
`epactl config show` says which that was. `epad check` names every mistake with file and line; `epactl reload` applies
a changed file, and names the changes that wait for a restart. Seconds may have a fraction. A key without a default must
be given. A user for whom `/etc/epad` is closed, or not there, has `epad/epad.toml` in `$XDG_CONFIG_HOME` (`~/.config`)
in its place.

`epactl init` writes a first file: the model servers that answer on this machine, and an agent in a workspace.

`epad check --try` also starts each subsystem once, by a daemon of its own that is gone afterwards (state, sockets,
keys, a gateway on a free port), and says whether it ran, became ready by its own check within `--seconds` (20), or
ended, and with which last lines. A stub answers for every model, so no token is spent; a daemon that runs is not
touched. The programs are real: their effects on their own files, ports and GPUs they do here too. Run it as the
daemon's user.
"""

# Explains the tables that the shipped defaults lack, since only a user's configuration has them.
WORDS: Mapping[str, str] = {
    "upstreams.NAME.url": "where the model server listens; a base that ends in /v1 is understood",
    "upstreams.NAME.dialects": "the protocols it speaks",
    "upstreams.NAME.models": "glob patterns; the first upstream that matches serves a model",
    "upstreams.NAME.api_key_file": "a file with its key, which no subsystem ever sees",
    "upstreams.NAME.api_key_credential": "the same, from systemd's LoadCredential=",
    "upstreams.NAME.api_key_secret": "the same, by its name in the vault: epactl secret set NAME --for gateway",
    "upstreams.NAME.context_tokens": "the longest prompt and answer it takes; 0: not known",
    "upstreams.NAME.free": "its turns cost nothing, so it needs no price",
    "upstreams.NAME.embedded": "it is a toy of epad's own, and everything that shows its results says so",
    "upstreams.NAME.tokenizer": "its tokenizer.json, where the server counts by no route: needs 'epad[tokenizer]'",
    "upstreams.NAME.served_by": "the subsystem whose process it is, so that its failing is told from its clients'",
    "upstreams.NAME.server": "its kind, as llama.cpp, vllm, ollama or openai; empty: told by its answers",
    "upstreams.NAME.fields": "fields of a request that it may be asked with beside those that are known",
    "subsystems.NAME.pass_env": "variables of the daemon's own that it gets too, as NAME or PREFIX_*",
    "subsystems.NAME.kind": "started by epad, a unit that systemd has already, or only a key at the gateway",
    "subsystems.NAME.unit": 'the systemd unit, for `kind = "unit"`',
    "subsystems.NAME.command": 'the program and its arguments, for `kind = "process"`; no shell reads it',
    "subsystems.NAME.environment": "variables beside those that epad gives it",
    "subsystems.NAME.working_directory": "where it starts; empty: a directory of its own below the state",
    "subsystems.NAME.essential": "repaired rather than parked, however often",
    "subsystems.NAME.depends_on": "its providers; started first, stopped last",
    "subsystems.NAME.gateway": "whether it has a key at the gateway",
    "subsystems.NAME.serves": "the upstream it is: its VRAM is released by that server's own means first",
    "subsystems.NAME.background": "it may be paused for the others' sake: PRESERVATION does (a wargame, a quantizer)",
    "subsystems.NAME.fills_gpu": "it fills its GPU by design, and is not blamed for that",
    "subsystems.NAME.listen": "an address or `unix:/path` of its own at the gateway, where no key is needed",
    "subsystems.NAME.user": "the one user who may use its Unix socket and its key there; a root daemon runs it as that "
    "user, confined or not (not confined it needs a `working_directory` of that user's); empty: the daemon's",
    "subsystems.NAME.group": "the group whose budget it shares",
    "subsystems.NAME.memory_max": 'the most memory it may take, such as "4GiB"; 0: no limit. Held by the kernel, from'
    " its next start on, where its engine has a control group for it; else it is stopped above it",
    "subsystems.NAME.memory_high": "above it the kernel slows it down and takes memory back; without a control"
    " group it is throttled at the gateway after probes.memory.high_seconds; 0: no limit",
    "subsystems.NAME.tier": "how far its tools go, from its next start on: reader, analyst, author or operator; empty:"
    " author with a workspace, else reader",
    "subsystems.NAME.memory": "what its sessions find in memory: their own rows, or those that a person has shared too"
    " (epactl memory promote)",
    "subsystems.NAME.workspace_labels": "what its sessions have read from their beginning: private (its workspace is"
    " yours alone), untrusted (others write there), or both; see docs/taint.md",
    "subsystems.NAME.tools": 'its tools, each as "file_read", a category as "files.*", or "*"; empty: all that its tier'
    " allows",
    "subsystems.NAME.on_change": "what becomes of a start as something else than the last one: told, or held until "
    "`epactl changes accept`",
    "subsystems.NAME.made_of": "patterns of further files that it is made of, as its prompts, from where it starts",
    "subsystems.NAME.tool_calls_per_minute": "the calls of tools that it may make a minute; 0: no limit; empty: as"
    " tools.calls_per_minute says",
    "subsystems.NAME.tool_output_tokens_per_hour": "what its tools may give back an hour, a byte counted as a token;"
    " 0: no limit; empty: as tools.output_tokens_per_hour says",
    "subsystems.NAME.stop_seconds": "from TERM to KILL",
    "subsystems.NAME.ready_seconds": "how long it may take to become ready; more where it serves a model, by its size",
    "subsystems.NAME.notifies": "it says READY=1 itself (sd_notify)",
    "probes.PROBE.enforce": "by detector: observe (only told) or contain",
    "subsystems.NAME.enforce": "for this one alone, by detector: observe (only told) or contain",
    "confine.profile": "open: no walls; gateway-only: its model and `hosts`, the files of its user; workspace: files of"
    " its own alone; sealed: no network, and no file to write but in /tmp",
    "confine.workspace": "the directory that it may write to, from the root or from ~/; empty: where it starts",
    "confine.read": "further files and directories that it may read, from the root or from ~/",
    "confine.never": "what stays read-only in the workspace, from there, as CLAUDE.md; .git/hooks, .envrc, .vscode and"
    " their like always do",
    "confine.hosts": 'what it may reach, as "github.com", "*.example.org" or "example.org:8443" (443 if left out); a'
    ' private network\'s with its address, as "10.0.0.5:8000" or "git.lan=10.0.0.6"',
    "confine.secrets": "names from [secrets] whose placeholders, {{secret:NAME}}, are filled into its requests",
    "confine.intercept": "those of `hosts` whose TLS the way out reads (port 443), by an authority of the cell: secrets"
    " are filled in there too, and decoys are found; needs the extra epad[intercept]",
    "confine.ask": "a host that is not named waits for a person, rather than being refused",
    "confine.gpu": "the GPUs' devices, and what CUDA needs of the kernel",
    "confine.decoys": "keys that open nothing are shown in its variables and its home; one in a prompt is refused, and"
    " holds it",
    "confine.require": "all: no start without every wall; best: it starts without those that this machine cannot give,"
    " and status names them",
    "state.files": "saved as they are",
    "state.directories": "saved with all that is in them",
    "state.databases": "SQLite databases, saved by SQLite's own backup",
    "state.checkpoint_signal": "sent before, so that it can save first",
    "state.deadline_seconds": "how long it may take to say that it has saved",
    "agents.NAME.command": "the program and its arguments; {NAME} stands for a parameter, never in a script of an"
    " interpreter; no shell reads it",
    "agents.NAME.parents": "the subsystems, and the templates of agents, that may ask for it",
    "agents.NAME.tier": "the highest tier that it is given; above its parent's, and above author, a person consents",
    "agents.NAME.environment": "variables beside those that epad gives it",
    "agents.NAME.tools": "its tools; empty: its parent's",
    "agents.NAME.timeout_seconds": "it is ended after so long",
    "agents.NAME.memory_max": 'the most memory it may take, such as "4GiB"; 0: no limit',
    "agents.NAME.stop_seconds": "from TERM to KILL",
    "agents.NAME.budget.tokens": "the most tokens that one agent is given out of its parent's budget, and what it gets"
    " where it asks for nothing",
    "agents.NAME.budget.usd": "the same of money; it has to be given where the parent has a limit in money",
    "agents.NAME.budget.max_in_flight": "turns at the same time",
    "agents.NAME.budget.requests_per_minute": "requests, whatever they cost; 0: no limit",
    "agents.NAME.parameters.NAME.pattern": "a regular expression that the whole text has to match",
    "agents.NAME.parameters.NAME.choices": "the texts that it may be",
    "agents.NAME.parameters.NAME.least": "the smallest number that it may be",
    "agents.NAME.parameters.NAME.most": "the largest number that it may be",
    "agents.NAME.parameters.NAME.max_characters": "the longest text",
    "secrets.NAME.hosts": "where it may be sent to, as api.github.com: a request to http://HOST goes there over TLS",
    "secrets.NAME.file": "the file that holds it, from the root; no confined subsystem reads it",
    "secrets.NAME.credential": "or the name of systemd's credential",
    "secrets.NAME.sealed": "or `true`: it lies sealed in the vault, by this name (epactl secret set NAME)",
    "datastores.NAME.path": "the file, from the root",
    "datastores.NAME.kind": "auto: told by how it begins",
    "datastores.NAME.subsystem": "the one that writes it; held while the store is damaged",
    "datastores.NAME.shrink_ratio": "losing more than this share of its rows between two looks is damage",
    "datastores.NAME.restore": "RECOVERY puts the last sound copy in the place of a damaged file, which it keeps;"
    " off: it is your own data, and rows written since that copy are only in the damaged file",
    "restart.policy": "when it is started again",
    "restart.intensity": "so many restarts within the period; then it has failed",
    "restart.period_seconds": "the period of intensity",
    "restart.backoff_seconds": "before the first restart; doubles with each",
    "restart.backoff_max_seconds": "the longest wait",
    "restart.healthy_seconds": "after so long a run, if it was ready in it, the count begins anew",
    "restart.failures_in_a_row": "so many restarts without such a run between them, however far apart; then it has"
    " failed; 0: no such limit, as for a job that is to run again and again",
    "restart.hung_seconds": "restart a process that hangs for so long; 0: it is reported and left alone",
    "restart.success_exit_codes": "exits that are an end and no failure",
    "health.http": "a URL that must answer below 400",
    "health.tcp": "an address that must take a connection",
    "health.command": "a program that must exit with 0",
    "health.inference": "a model that must give one token",
    "health.interval_seconds": "how often it is asked",
    "health.timeout_seconds": "how long it may take to answer",
    "health.failures": "so many in a row, and it hangs",
    "log.max_bytes": "of the present file",
    "log.keep": "former files",
    "tools.servers.NAME.command": "an MCP server that somebody else wrote, as a child in a cell of its own; no shell"
    " reads it (docs/foreign-servers.md)",
    "tools.servers.NAME.url": "or where it listens: Streamable HTTP, https:// except on this machine",
    "tools.servers.NAME.environment": "the variables that the child has beside PATH, HOME and the way out's;"
    " {{secret:NAME}} stands for a secret, which the server then sees",
    "tools.servers.NAME.headers": 'fields of each request to the url, as {Authorization = "Bearer {{secret:NAME}}"}',
    "tools.servers.NAME.workspace": "the directory that it may write to, from the root or from ~/; empty: one of its"
    " own below the state",
    "tools.servers.NAME.read": "further files and directories that it may read, from the root or from ~/",
    "tools.servers.NAME.hosts": "what it may reach, as confine.hosts has it; empty: nothing",
    "tools.servers.NAME.user": "whom a root daemon runs it as; empty: the daemon's own user",
    "tools.servers.NAME.require": "all: no start without every wall; best: it starts without those that this machine"
    " cannot give",
    "tools.servers.NAME.memory_max": "the most memory that each of its processes may take; 0: no limit",
    "tools.servers.NAME.call_seconds": "the longest that a call of one of its tools may take",
    "tools.servers.NAME.start_seconds": "how long it may take until it has told its tools",
    "tools.servers.NAME.risks": 'what a person has found out about its tools, as {read_file = "R1"}; "*" is for those'
    " that are not named. Without it a tool is X1: it takes the tier operator, and consent",
    "prices.MODEL.input": "USD per million tokens read",
    "prices.MODEL.output": "USD per million tokens written",
    "prices.MODEL.cached_read": "left out: as input",
    "prices.MODEL.cache_write": "left out: as input",
    "prices.MODEL.cache_write_hour": "for writes that are kept for an hour; left out: twice input where cache_write "
    "is given, and no less than that; else as input",
    "prices.MODEL.reasoning": "left out: as output",
    "budget.max_in_flight": "turns at the same time; 0: no limit of its own",
    "budget.requests_per_minute": "requests, whatever they cost; 0: no limit",
    "global.max_in_flight": "turns at the same time; 0: as [gateway] says",
    "global.requests_per_minute": "requests, whatever they cost; 0: no limit",
    "notify.ntfy_file": "a file with an ntfy topic's address in its first line, and a token, if any, in its second",
    "notify.ntfy_credential": "the same, from systemd's LoadCredential=",
    "notify.webhook_file": "a file with an address that takes JSON, and a token, if any",
    "notify.webhook_credential": "the same, from systemd's LoadCredential=",
    "notify.desktop": "notifications of the desktop too, through notify-send: where epad runs as you",
    "notify.quiet": 'as "23:00-07:00": until its end a message waits, unless a critical incident begins',
    "notify.zone": "the time zone of those hours, as Europe/Berlin; empty: the machine's",
    "daemon.log_level": "less grave events are not logged",
}
_UNITS = {"tokens": "tokens", "usd": "USD"}
_NAMED = {"prices": "MODEL"}
_BLANK = "-"


def render() -> str:
    """Return the document."""
    text = (resources.files("epad") / "default.toml").read_text()
    defaults, comments = tomllib.loads(text), dict(_comments(text))
    lines = [HEAD]
    for section, hint in fields_of(Config).items():
        lines += _table((section,), hint, defaults.get(section, {}), comments)
    return "\n".join(lines).rstrip() + "\n"


def _comments(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the comment on each key, in its own line or the lines that go on from it."""
    lines = text.splitlines()
    for path, number in key_lines(text).items():
        said: list[str] = []
        for line in (lines[number - 1], *lines[number:]):
            before, mark, comment = line.partition(" #" if line == lines[number - 1] and not said else "#")
            if not mark or (said and (before.strip() or not line.startswith(" "))):
                break
            said.append(comment.strip(" #"))
        if said:
            yield path, " ".join(said)


def _table(
    path: tuple[str, ...], hint: Any, defaults: Any, comments: Mapping[tuple[str, ...], str]
) -> Iterator[str]:
    """Yield the lines of one table and those below it."""
    if get_origin(hint) is dict:
        yield from _named_table(path, get_args(hint)[1], defaults, comments)
        return
    hints = fields_of(hint)
    inner = {name: below for name, below in hints.items() if _is_table(below) and name not in _IN_ONE_ROW}
    flat = {name: below for name, below in hints.items() if name not in inner}
    yield from ("", f"## [{'.'.join(path)}]", "", _sentence(hint), "")
    if flat:
        yield from ("| key | value | default | meaning |", "|---|---|---|---|")
        for name, below in flat.items():
            yield _row(path, name, below, _default(hint, name, defaults), comments)
    for name, below in inner.items():
        yield from _table((*path, name), below, (defaults or {}).get(name, {}), comments)


def _named_table(
    path: tuple[str, ...], hint: Any, defaults: Any, comments: Mapping[tuple[str, ...], str]
) -> Iterator[str]:
    """Tables, or values, under names of one's own."""
    name = _NAMED.get(path[0], "NAME")
    if _is_table(hint):
        known = {key: value for key, value in (defaults or {}).items() if isinstance(value, dict)}
        if known and path[0] != "subsystems":
            for key, value in known.items():
                yield from _table((*path, key), hint, value, comments)
        else:
            yield from _table((*path, "global" if path == ("budgets",) else name), hint, {}, comments)
        return
    yield from ("", f"## [{'.'.join(path)}]", "", f"Each is {describe(hint)}.", "")
    yield from ("| key | default | |", "|---|---|---|")
    for key, value in (defaults or {}).items():
        yield f"| `{key}` | `{_cell(shown(value))}` | {_cell(comments.get((*path, key), ''))} |"


def _row(
    path: tuple[str, ...], name: str, hint: Any, default: str, comments: Mapping[tuple[str, ...], str]
) -> str:
    words = comments.get((*path, name)) or _words(path, name)
    return f"| `{name}` | {_cell(describe(hint))} | {_cell(default)} | {_cell(words)} |"


def _words(path: tuple[str, ...], name: str) -> str:
    """Return the text about a key: by its whole path, else by its table, else by its name."""
    keys = (".".join((*path, name)), f"{path[0]}.PROBE.{name}", f"{path[-1]}.{name}")
    unit, _, span = name.partition("_")
    limit = f"{_UNITS[unit]} {span.replace('_', ' ')}; 0: no limit" if unit in _UNITS else ""
    return next((WORDS[key] for key in keys if key in WORDS), limit)


def _default(struct: Any, name: str, defaults: Any) -> str:
    if isinstance(defaults, dict) and name in defaults:
        return f"`{shown(defaults[name])}`"
    item = next(one for one in msgspec.structs.fields(struct) if one.name == name)
    if item.required:
        return _BLANK
    if get_origin(item.type) is dict:
        return "`{}`"
    value = item.default if item.default is not msgspec.NODEFAULT else item.default_factory()
    return _BLANK if value is None else f"`{shown(msgspec.to_builtins(value))}`"


def _sentence(struct: Any) -> str:
    return " ".join((struct.__doc__ or "").split())


_IN_ONE_ROW = frozenset({"enforce"})
"""Tables that are most often empty."""


def _is_table(hint: Any) -> bool:
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(bare) is dict:
        return get_args(bare) != (str, str)
    return isinstance(bare, type) and issubclass(bare, msgspec.Struct)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
