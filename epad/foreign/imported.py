"""Turn the list of servers of another program (`mcpServers`, as Claude Desktop has it) into epad's configuration. Pure.

Secrets stay out of it: a variable or header whose name or value looks like one becomes a reference, and a comment says
how the secret is put away. A name that epad's own tools have gets `mcp-` in front.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from epad import EpadError
from epad.configuration.servers_checks import MOST_NAME_CHARACTERS
from runners.tools.catalogue import CATEGORIES

_TABLES: Final = ("mcpServers", "servers", "context_servers")
"""The keys of Claude Desktop, Claude Code, Cursor and Windsurf; of VS Code; and of Zed."""
_SECRET: Final = re.compile(
    r"(?i)(token|secret|passw|api_?key|apikey|auth|credential|private|access_?key)|^(sk|ghp|gho|github_pat|xox[bp])[-_]"
)
_REFERENCE: Final = re.compile(r"\$\{(?:env:|input:)?([A-Za-z0-9_-]+)(?::-[^}]*)?\}")
_HOSTS: Final = {
    "npx": "registry.npmjs.org",
    "uvx": "pypi.org",
}
_MORE_HOSTS: Final = {"uvx": ("files.pythonhosted.org",)}


class ImportFileError(EpadError):
    """A file has no list of servers; the message says what is lacking."""


def as_toml(told: object) -> list[str]:
    """Return the lines of the configuration. Raises ImportFileError."""
    servers = _servers(told)
    lines = [
        "# Look through it, and put it into your epad.toml; docs/foreign-servers.md explains the keys.",
        "",
    ]
    taken: set[str] = set()
    for given, server in servers.items():
        name = _name(str(given), taken)
        taken.add(name)
        lines += [*_server(name, str(given), server), ""]
    return lines[:-1]


def _servers(told: object) -> Mapping[str, Any]:
    if not isinstance(told, dict):
        raise ImportFileError("it is no object with the key mcpServers")
    inner = told.get("mcp")
    places = [told, inner] if isinstance(inner, dict) else [told]
    for place in places:
        for key in _TABLES:
            if isinstance(found := place.get(key), dict) and found:
                return found
    raise ImportFileError('it has no servers: an object with the key "mcpServers" is looked for')


def _name(given: str, taken: set[str]) -> str:
    """Return the name that a server has here."""
    plain = re.sub(r"[^a-z0-9]+", "-", given.lower()).strip("-")
    if not plain or not plain[0].isalpha() or plain in CATEGORIES:
        plain = f"mcp-{plain}".rstrip("-")
    plain = plain[: MOST_NAME_CHARACTERS - 3].rstrip("-")
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}-{number}", number + 1
    return name


def _server(name: str, given: str, server: object) -> Iterator[str]:
    if not isinstance(server, dict):
        yield f"# {_comment(given)} is no server: it is left out"
        return
    if name != given:
        yield f"# {_comment(given)} there"
    if server.get("disabled") is True or server.get("enabled") is False:
        yield "# it is turned off there"
    url = server.get("url") or server.get("serverUrl") or server.get("httpUrl")
    command = server.get("command")
    if isinstance(command, dict):  # Zed's older form
        server = {**command, "command": command.get("path")}
        command = server["command"]
    if isinstance(command, str) and command:
        yield from _child(name, command, server)
    elif isinstance(url, str) and url:
        yield from _listening(name, url, server)
    else:
        yield f"# {_comment(given)} has neither a command nor a url: it is left out"


def _child(name: str, command: str, server: Mapping[str, Any]) -> Iterator[str]:
    arguments = server.get("args")
    whole = [command, *(str(one) for one in arguments)] if isinstance(arguments, list) else [command]
    program = command.rsplit("/", 1)[-1]
    yield f"[tools.servers.{name}]"
    yield f"command = {_array(whole)}"
    if hosts := [*filter(None, [_HOSTS.get(program)]), *_MORE_HOSTS.get(program, ())]:
        yield "# what the first start loads its program from; add the hosts that the server itself needs"
        yield f"hosts = {_array(hosts)}"
    paths = [one for one in whole[1:] if one.startswith(("/", "~/"))]
    if paths:
        yield "# it has these paths among its arguments: the one that it writes to is its workspace"
        yield f"# workspace = {_text(paths[0])}"
        yield f"# read = {_array(paths)}"
    if isinstance(server.get("cwd"), str):
        yield f"# it is started in {_comment(server['cwd'])} there; a relative path means its workspace here"
    yield from _variables(name, "environment", server.get("env"))
    yield from _risks()


def _listening(name: str, url: str, server: Mapping[str, Any]) -> Iterator[str]:
    kind = str(server.get("type") or server.get("transport") or "")
    if kind.lower() == "sse":
        yield "# it speaks the transport of 2024 (SSE) there; epad needs its Streamable HTTP, often at /mcp"
    yield f"[tools.servers.{name}]"
    yield f"url = {_text(url)}"
    yield from _variables(name, "headers", server.get("headers"))
    yield from _risks()


def _variables(name: str, key: str, given: object) -> Iterator[str]:
    """Yield variables or headers; what looks like a secret is referred to, and its value is not printed."""
    if not isinstance(given, dict) or not given:
        return
    pairs: list[str] = []
    for variable, value in given.items():
        if _SECRET.search(str(variable)) or _SECRET.search(str(value)) or _REFERENCE.search(str(value)):
            secret = re.sub(r"[^a-z0-9]+", "_", f"{name}_{variable}".lower()).strip("_")
            yield f"# put {_comment(str(variable))} into a file of mode 0400, and declare it:"
            yield f"# [secrets.{secret}]"
            yield f'# file = "/etc/epad/{secret}"'
            yield '# hosts = ["the host that it is for"]'
            head = "Bearer " if key == "headers" and str(value).lower().startswith("bearer ") else ""
            pairs.append(f"{_key(str(variable))} = {_text(head + '{{secret:' + secret + '}}')}")
        else:
            pairs.append(f"{_key(str(variable))} = {_text(str(value))}")
    yield f"{key} = {{ {', '.join(pairs)} }}"


def _risks() -> Iterator[str]:
    yield '# risks = { a_tool = "R1" }  # once you know what a tool does; until then each is X1 and takes your consent'


def _array(values: list[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _text(value: str) -> str:
    """Return a basic string of TOML, whose escapes are those of JSON, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _comment(text: str) -> str:
    """Return a text for a comment: in one line."""
    return _text(text)
