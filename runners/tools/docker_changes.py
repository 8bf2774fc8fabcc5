"""Tools of the category `docker` that run something: a container, a program in one, and the end of one.

Containers of others are not entered and not stopped: they may have the network, and the host's files.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from runners.tools import container_run, output
from runners.tools.container_run import connected
from runners.tools.engine import Output, container_path
from runners.tools.engine_fields import Argv, ExecCreate, ExecStart, host_config
from runners.tools.signature import Args, Result, meta

_MOST_SECONDS: Final = 300.0

Seconds = Annotated[float, Meta(gt=0, le=_MOST_SECONDS)]


class RunArgs(Args, frozen=True):
    """Names an image that is here, the arguments of its program, and its bounds; memory in MiB."""

    image: str
    argv: Argv
    workspace: bool = False
    detach: bool = False
    memory: Annotated[int, Meta(ge=4, le=4096)] = 512
    cpus: Annotated[float, Meta(gt=0, le=4)] = 1
    timeout: Seconds = 60


class RunResult(Result, frozen=True):
    """Tells the exit status and the output; without `exit` it was killed as its time was over, or was detached."""

    container: str
    stdout: str = ""
    stderr: str = ""
    truncated: bool = False
    exit: int | UnsetType = UNSET


DOCKER_RUN: Final = meta(
    "docker_run",
    RunArgs,
    RunResult,
    risk="X2",
    timeout=_MOST_SECONDS + 60,
    description="Run a container of a local image, no network, no rights. workspace: mount it read-only.",
    examples=({"image": "epad-test:latest", "argv": ["/hello"]},),
)


@DOCKER_RUN.tool
async def docker_run(args: RunArgs) -> RunResult:
    """Create, start, wait, read, remove. A detached one is removed by a call after its time is over, or docker_stop."""
    engine = connected()
    workspace = container_run.readable_workspace() if args.workspace else ""
    confined = host_config(args.memory, args.cpus, workspace)
    container = container_run.create(engine, args.image, args.argv, confined, args.timeout)
    if args.detach:
        container_run.start(engine, container)
        return RunResult(container=container[:12])
    with container_run.removed_at_end(engine, container):
        engine.post(f"{container_path(container)}/start")
        status = container_run.wait(engine, container, args.timeout)
        written, cut = _cut(container_run.output(engine, container))
    return RunResult(
        container=container[:12],
        stdout=written.stdout,
        stderr=written.stderr,
        truncated=cut,
        exit=UNSET if status is None else status,
    )


def _cut(written: Output) -> tuple[Output, bool]:
    stdout, first = output.cut_text(written.stdout, output.room() // 2)
    stderr, second = output.cut_text(written.stderr, output.room() // 2)
    return Output(stdout, stderr), first or second


class ExecArgs(Args, frozen=True):
    """Names a container that a tool has started, and a program in it."""

    container: str
    argv: Argv
    timeout: Seconds = 30


class ExecResult(Result, frozen=True):
    """Tells the exit status and the output."""

    exit: int
    stdout: str
    stderr: str
    truncated: bool


DOCKER_EXEC: Final = meta(
    "docker_exec",
    ExecArgs,
    ExecResult,
    risk="X2",
    timeout=_MOST_SECONDS + 30,
    description="Run a program in a container that docker_run has started.",
    examples=({"container": "ours", "argv": ["/hello"]},),
)


@DOCKER_EXEC.tool
async def docker_exec(args: ExecArgs) -> ExecResult:
    """Run it in a container of this agent's alone: others may have the network, and the host's files."""
    engine = connected()
    container = str(container_run.own(engine, args.container)["Id"])
    made = str(engine.post(f"{container_path(container)}/exec", ExecCreate(cmd=args.argv))["Id"])
    path = f"/exec/{container_path(made).rpartition('/')[2]}"
    written, cut = _cut(engine.attach(f"{path}/start", ExecStart(), container_run.MOST_OUTPUT, args.timeout))
    told = engine.get(f"{path}/json")
    return ExecResult(
        exit=int(told.get("ExitCode") or 0), stdout=written.stdout, stderr=written.stderr, truncated=cut
    )


class StopArgs(Args, frozen=True):
    """Names a container that a tool has started."""

    container: str


class StopResult(Result, frozen=True):
    """Tells if it was running."""

    stopped: bool


DOCKER_STOP: Final = meta(
    "docker_stop",
    StopArgs,
    StopResult,
    risk="X1",
    timeout=60,
    description="Stop and remove a container that docker_run has started.",
    examples=({"container": "ours"},),
)


@DOCKER_STOP.tool
async def docker_stop(args: StopArgs) -> StopResult:
    """Stop it, by force after 5 s."""
    engine = connected()
    told = container_run.own(engine, args.container)
    engine.post(f"{container_path(str(told['Id']))}/stop", t="5")
    container_run.remove(engine, str(told["Id"]))
    return StopResult(stopped=bool((told.get("State") or {}).get("Running")))


TOOLS: Final = (DOCKER_EXEC, DOCKER_RUN, DOCKER_STOP)
