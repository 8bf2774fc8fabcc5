"""`epactl init`: write a first configuration for this machine, from the model servers that answer on it.

The file is read back and checked as `epad check` does before it is written, so that a mistyped agent leaves no file.
"""

from __future__ import annotations

import os
import sys

from epad.epactl.call import EXIT_OK, Call, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from epad.configuration.first_file import Agent, FoundServer

_STDOUT = "-"
# The first word of a command is found in these by every daemon, whatever the PATH that it is started with.
_EVERYBODYS = ("/usr/bin", "/bin", "/usr/local/bin")
# Names of models that answer no question.
_NO_CHAT = ("embed", "bge-", "rerank", "whisper", "tts")
_SHOWN_MODELS = 3
_SHIM_SECONDS = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its operand and options."""
    parser.add_argument(
        "path", metavar="PATH", nargs="?", help="the file to write (that which `epad run` reads); - prints it"
    )
    parser.add_argument("--stdout", action="store_true", help="print the file, and write none")
    parser.add_argument("--force", action="store_true", help="replace a file; the old one is kept beside it")
    parser.add_argument(
        "--agent", metavar="COMMAND", help='the command of your agent, in quotes: "python3 agent.py"'
    )
    parser.add_argument(
        "--workspace", metavar="DIR", help="the directory of --agent, which it may write (the present one)"
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        dest="servers",
        action="append",
        default=[],
        help="look for a model server here too, as http://127.0.0.1:8001; may be given several times",
    )


def init(call: Call) -> int:
    """`epactl init [PATH] [--stdout] [--force] [--agent COMMAND [--workspace DIR]] [--server URL]...`."""
    from epad.configuration.first_file import first_configuration  # noqa: PLC0415
    from epad.gateway import local_servers  # noqa: PLC0415

    wanted = call.arguments
    if wanted.workspace and not wanted.agent:
        raise UsageError("--workspace is the directory of --agent", "give both, or none")
    own = _own_agent(wanted.agent, wanted.workspace) if wanted.agent else None
    named = [_address(url) for url in wanted.servers]
    addresses = list(dict.fromkeys([*named, *local_servers.usual_addresses()]))
    servers = local_servers.search(addresses)
    agent = own or _example_agent(servers)
    text = first_configuration(servers, agent)
    _check(text, call)
    told = list(_told(servers, agent, addresses))
    if wanted.stdout or wanted.path == _STDOUT:
        for line in told:
            call.terminal.say(line)
        call.terminal.lines(text.splitlines())
        return EXIT_OK
    return _write(call, text, told, servers, agent)


def _write(
    call: Call, text: str, told: Sequence[str], servers: Sequence[FoundServer], agent: Agent | None
) -> int:
    import shlex  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from epad.configuration.load import usual_file  # noqa: PLC0415
    from epad.storage.new_file import NewFileError, write_new  # noqa: PLC0415

    chosen = call.arguments.path
    path = Path(chosen).absolute() if chosen else usual_file()
    try:
        kept = write_new(path, text, replace=call.arguments.force, make_directory=not chosen)
    except NewFileError as error:
        raise UsageError(error.what, error.fix) from error
    option = f" --config {shlex.quote(str(chosen))}" if chosen else ""
    lines = [
        *told,
        *([f"the file that was there is kept: {kept}"] if kept else []),
        f"written: {path}",
        f"next: epad check{option}, then epad run{option}",
    ]
    answer = {
        "file": str(path),
        "kept": str(kept or ""),
        "agent": list(agent.command) if agent else [],
        "servers": [
            {"url": server.url, "server": server.kind, "models": [*server.models]} for server in servers
        ],
    }
    call.terminal.show(answer, lines)
    return EXIT_OK


def _address(url: str) -> tuple[str, int]:
    """Read the address of a server. Raises UsageError."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    else:
        if parts.scheme != "http" or parts.path.strip("/") or parts.query or parts.username:
            host = None
    if not host or not port:
        raise UsageError(f"--server {url!r} is no address of a model server", "write http://HOST:PORT")
    return host, port


def _own_agent(text: str, workspace: str | None) -> Agent:
    """Return the agent that was asked for. Raises UsageError."""
    import shlex  # noqa: PLC0415

    from epad.configuration.first_file import Agent  # noqa: PLC0415

    try:
        text.encode()
        command = [os.path.expanduser(word) for word in shlex.split(text)]  # noqa: PTH111 - a word, often no path
    except UnicodeEncodeError as error:
        raise UsageError("--agent is not UTF-8", "TOML knows no other texts") from error
    except ValueError as error:
        raise UsageError(
            f"--agent {text!r} cannot be split into words: {error}", "close its quotes"
        ) from error
    if not command:
        raise UsageError("--agent is empty", 'give its command in quotes: --agent "python3 agent.py"')
    return Agent((_program(command[0]), *command[1:]), _workspace(workspace))


def _program(name: str) -> str:
    """Return a program's name, or its path where only the PATH of this shell leads to it."""
    import shutil  # noqa: PLC0415

    found = shutil.which(name) if "/" not in name else None
    if found is None or os.path.dirname(found) in _EVERYBODYS:  # noqa: PTH120 - a text, compared with texts
        return name
    return _behind_shim(os.path.abspath(found))  # noqa: PTH100 - resolve() would leave a virtual environment


def _behind_shim(program: str) -> str:
    """Return the Python that a shim of pyenv, asdf or mise starts: a cell has none of the files that a shim reads."""
    import subprocess  # noqa: PLC0415

    folder, name = os.path.split(program)
    if os.path.basename(folder) != "shims" or not name.startswith("python"):  # noqa: PTH119 - likewise
        return program
    try:
        done = subprocess.run(
            [program, "-c", "import sys; print(sys.executable)"],
            capture_output=True,
            text=True,
            timeout=_SHIM_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return program
    return done.stdout.strip() or program


def _workspace(chosen: str | None) -> str:
    """Return the directory of an agent: the one named, else the present one. Raises UsageError."""
    from pathlib import Path  # noqa: PLC0415

    directory = Path(chosen or ".").expanduser().absolute()
    if not directory.is_dir():
        raise UsageError(f"--workspace {chosen} is no directory", "make it, or name another")
    directory, home = Path(os.path.normpath(directory)), Path.home()
    if not chosen and home.is_relative_to(directory):
        raise UsageError(
            f"{directory} is no workspace for an agent, which could write all of it",
            "go to the agent's own directory, or name it with --workspace",
        )
    return str(directory)


def _example_agent(servers: Sequence[FoundServer]) -> Agent | None:
    """Return a program that asks the first model one question, and ends; None where there is no model to ask."""
    from epad.configuration.embedded_default import runner_files  # noqa: PLC0415
    from epad.configuration.first_file import Agent  # noqa: PLC0415

    models = [model for server in servers if not server.wants_key for model in server.models]
    model = next((name for name in models if not any(part in name.lower() for part in _NO_CHAT)), None)
    if model is None:
        return None
    command = (sys.executable, "-m", "runners.chat", "--model", model, "--turns", "1", "--interval", "60")
    about = "An example: it asks a model one question through epad, and ends. Put your own in its place:\n"
    about += 'command = ["python3", "agent.py"], with its directory as working_directory and as workspace.'
    return Agent(command, read=runner_files(), notifies=True, about=about)


def _check(text: str, call: Call) -> None:
    """Read the file as `epad check` does, before it is written. Raises UsageError with each fault."""
    from pathlib import Path  # noqa: PLC0415
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    from epad.configuration.load import ConfigError, read  # noqa: PLC0415
    from epad.doctor.missing_programs import world_check  # noqa: PLC0415

    with TemporaryDirectory(prefix="epad-init-") as directory:
        file = Path(directory) / "epad.toml"
        file.write_text(text)
        try:
            loaded = read([file])
            faults = loaded.located(world_check(loaded.config, call.environment))
        except ConfigError as error:
            faults = list(error.problems)
    for fault in faults:
        call.terminal.say(f"{fault.key}: {fault.text}")
    if faults:
        raise UsageError("nothing is written", "correct --agent, --workspace or --server")


def _told(
    servers: Sequence[FoundServer], agent: Agent | None, addresses: Sequence[tuple[str, int]]
) -> Iterator[str]:
    """Yield one line for each thing that was found, and for the walls."""
    import shlex  # noqa: PLC0415

    for server in servers:
        yield f"found: {server.word} at {server.url}, {_about(server)}"
    if not servers:
        where = ", ".join(f"{host}:{port}" for host, port in addresses)
        yield f"found: no model server at {where}; start yours and write the file again, or name it with --server"
    if agent:
        place = f"in {agent.workspace}" if agent.workspace else "in a directory of epad's"
        yield f"agent: {shlex.join(agent.command)}, {place}, confined: workspace"
        yield (
            'walls: require = "best" starts it with the walls that this machine has; '
            "`epactl status` names the missing ones, `epactl doctor` the way to have them"
        )
    elif servers:
        yield "agent: none, since no model is there to ask; the file shows one as a comment"
    else:
        yield "agent: none; until the file has one, `epad run` starts its own examples, confined as far as can be"


def _about(server: FoundServer) -> str:
    if server.wants_key:
        return "which wants a key: its table is written as a comment, which says where the key goes"
    count = len(server.models)
    if not count:
        return "without a model yet"
    names = ", ".join(server.models[:_SHOWN_MODELS]) + (", ..." if count > _SHOWN_MODELS else "")
    return f"{count} model{'s' if count > 1 else ''}: {names}"
