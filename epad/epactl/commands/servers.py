"""Show foreign MCP servers and what has changed of their tools, accept that, and import another program's list."""

from __future__ import annotations

from epad.api.client import quote
from epad.epactl import arguments, render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, Call, UsageError
from epad.epactl.commands.orders import rehearse
from epad.epactl.consent import agreed
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from epad.answers.foreign import ForeignServer, ServerDiff, ServerList
    from epad.epactl.parser import Commands
    from epad.epactl.render import Style

_HEADS = ("SERVER", "STATE", "TOOLS", "PINNED BY", "DIGEST", "SAYS IT IS")
_TOOL_HEADS = ("TOOL", "RISK", "SET BY", "ITS CLAIMS", "ODD")
_STATE_STYLE = {"up": "green", "starting": "dim", "held": "red", "down": "yellow"}
_DIGITS = 16
_MOST_FILE_BYTES = 4 << 20


def add_commands(tools: Commands) -> None:
    """Add `epactl tools servers`, `diff`, `accept` and `import`."""
    listed = tools.ask(Operation.TOOLS_SERVERS_READ, show)
    listed.add_argument(
        "name", metavar="NAME", type=arguments.name, nargs="?", help="this one, with its tools"
    )
    compared = tools.ask(Operation.TOOLS_DIFF_READ, diff)
    compared.add_argument("name", metavar="NAME", type=arguments.name, help="the foreign server")
    tools.order(Operation.ACCEPT_TOOLS, accept)
    read = tools.add(
        "import", import_file, "Print the foreign servers of another program's JSON as epad's configuration."
    )
    read.add_argument("file", metavar="FILE", help="as claude_desktop_config.json, .mcp.json or mcp.json")


def show(call: Call) -> int:
    """`epactl tools servers [NAME]`. Raises UsageError for one that there is none of."""
    answer: ServerList = call.client.get(Operation.TOOLS_SERVERS_READ.path)
    style, name = call.terminal.style, call.arguments.name
    if name is None:
        call.terminal.show(answer, list(_all_lines(answer, style)))
        return EXIT_OK
    found = [one for one in answer["servers"] if one["name"] == name]
    if not found:
        known = ", ".join(one["name"] for one in answer["servers"]) or "none"
        raise UsageError(f"there is no foreign server {name!r}; there are: {known}")
    call.terminal.show(found[0], list(_lines(found[0], style)))
    return EXIT_OK


def diff(call: Call) -> int:
    """`epactl tools diff NAME`: exit 1 where the list is not as it was accepted."""
    answer = _diff(call)
    call.terminal.show(answer, list(_diff_lines(answer, call.terminal.style)))
    return EXIT_FAILED if answer["held"] else EXIT_OK


def accept(call: Call) -> int:
    """`epactl tools accept NAME --reason R`: what it accepts is what it shows. Raises UsageError, ClientError."""
    if call.arguments.dry_run:
        return rehearse(call, Operation.ACCEPT_TOOLS)
    name, looked = call.arguments.name, _diff(call)
    if looked["lines"] and not call.arguments.yes:
        call.terminal.lines(_diff_lines(looked, call.terminal.style))
    if not agreed(call, f"lets agents see and call the tools of {clean(name)} as it lists them now"):
        return EXIT_FAILED
    target = Operation.ACCEPT_TOOLS.target(quote(name))
    answer = call.client.order(target, call.arguments.reason, sha256=looked["listed_sha256"])
    call.terminal.show(answer, render.result_lines(answer))
    return EXIT_FAILED if answer.get("failed") else EXIT_OK


def import_file(call: Call) -> int:
    """`epactl tools import FILE`: TOML on the output, what a person has to look at as comments in it."""
    import json  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from epad.foreign.imported import ImportFileError, as_toml  # noqa: PLC0415

    path = Path(call.arguments.file)
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_FILE_BYTES + 1)
        if len(text) > _MOST_FILE_BYTES:
            raise UsageError(f"{path} has more than {_MOST_FILE_BYTES} bytes, so it is no list of servers")
        told = json.loads(text)
        lines = as_toml(told)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    except ImportFileError as error:
        raise UsageError(f"{path}: {error}") from error
    call.terminal.show({"toml": "\n".join(lines)}, lines)
    return EXIT_OK


def _diff(call: Call) -> ServerDiff:
    answer: ServerDiff = call.client.get(Operation.TOOLS_DIFF_READ.target(quote(call.arguments.name)))
    return answer


def _all_lines(answer: ServerList, style: Style) -> Iterator[str]:
    if not answer["servers"]:
        yield "there are no foreign servers: [tools.servers.NAME] declares one (docs/foreign-servers.md)"
        return
    rows = [
        (
            one["name"],
            one["state"],
            str(len(one["tools"])),
            one["pinned_by"] or "-",
            one["pinned_sha256"][:_DIGITS] or "-",
            one["identity"] or "-",
        )
        for one in answer["servers"]
    ]
    yield from render.table(_HEADS, rows, style)
    for one in answer["servers"]:
        yield from _trouble(one, style)
    plain = sum(not tool["is_classified"] for one in answer["servers"] for tool in one["tools"])
    if plain:
        yield f"{plain} tools are X1, since nobody has said otherwise: [tools.servers.NAME.risks]"


def _lines(one: ForeignServer, style: Style) -> Iterator[str]:
    yield from _all_lines({"servers": [one]}, style)
    rows = [
        (
            tool["also"],
            tool["risk"],
            "a person" if tool["is_classified"] else "default",
            " ".join(tool["claims"]) or "-",
            "; ".join(tool["remarks"]) or "-",
        )
        for tool in one["tools"]
    ]
    yield from render.table(_TOOL_HEADS, rows, style) if rows else ["it has no tools"]
    yield from (clean(f"left out: {why}") for why in one["unfit"])


def _trouble(one: ForeignServer, style: Style) -> Iterator[str]:
    if one["trouble"]:
        state = style.paint(one["state"], _STATE_STYLE.get(one["state"], "yellow"))
        yield f"{clean(one['name'])} is {state}: {clean(one['trouble'])}"
    if one["state"] == "held":
        yield f"  `epactl tools diff {clean(one['name'])}` shows why, and `epactl tools accept` lets it go"
    if one["missing"]:
        yield clean(f"{one['name']} runs without these walls: {', '.join(one['missing'])}")


def _diff_lines(answer: ServerDiff, style: Style) -> Iterator[str]:
    if not answer["lines"]:
        yield clean(f"{answer['name']} lists its tools as they were accepted")
    for line in answer["lines"]:
        first = line.lstrip()[:1]
        yield style.paint(clean(line), {"+": "green", "-": "red"}.get(first, "dim"))
    yield from (clean(f"look at: {remark}") for remark in answer["remarks"])
    if answer["held"]:
        yield clean(f"it is held: {answer['held']}")
