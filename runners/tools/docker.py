"""Tools of the category `docker` that look at containers and images; `docker_changes.py` has those that run one."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from runners.tools import container_run, docker_changes, environment_shown, output
from runners.tools.container_run import connected
from runners.tools.engine import container_path, image_path
from runners.tools.signature import Args, Result, ToolError, meta


class PsArgs(Args, frozen=True):
    """Chooses containers."""

    all: bool = False


class Container(msgspec.Struct, frozen=True):
    """Describes one container."""

    id: str
    names: list[str]
    image: str
    state: str
    status: str


class PsResult(Result, frozen=True):
    """Holds containers."""

    containers: list[Container]
    truncated: bool


DOCKER_PS: Final = meta(
    "docker_ps",
    PsArgs,
    PsResult,
    risk="R2",
    timeout=30,
    description="List running containers, or all.",
    examples=({},),
)


@DOCKER_PS.tool
async def docker_ps(args: PsArgs) -> PsResult:
    """List them without their command lines, which may have secrets."""
    listed = connected().get("/containers/json", all="1" if args.all else "0") or []
    kept, cut = output.cut_items(map(_container, listed), 500)
    return PsResult(containers=kept, truncated=cut)


def _container(each: dict[str, Any]) -> Container:
    names = [str(name).lstrip("/") for name in each.get("Names") or []]
    return Container(
        str(each["Id"])[:12], names, str(each["Image"]), str(each["State"]), str(each.get("Status", ""))
    )


class LogsArgs(Args, frozen=True):
    """Names a container, and how many of its last lines are wanted."""

    container: str
    tail: Annotated[int, Meta(ge=1, le=2000)] = 100


class LogsResult(Result, frozen=True):
    """Holds the last lines: those of its errors behind those of its output."""

    lines: list[str]
    truncated: bool


DOCKER_LOGS: Final = meta(
    "docker_logs",
    LogsArgs,
    LogsResult,
    risk="R2",
    timeout=30,
    description="Read the last lines that a container has written.",
    examples=({"container": "web"},),
)


@DOCKER_LOGS.tool
async def docker_logs(args: LogsArgs) -> LogsResult:
    """Read within bounds: a container may write without end."""
    written = connected().output(
        f"{container_path(args.container)}/logs",
        container_run.MOST_OUTPUT,
        stdout="1",
        stderr="1",
        tail=str(args.tail),
    )
    lines = [*written.stdout.splitlines(), *written.stderr.splitlines()]
    kept, cut = output.cut_items(map(output.cut_line, lines), len(lines))
    return LogsResult(lines=kept, truncated=cut)


class NoArgs(Args, frozen=True):
    """Takes nothing."""


class Image(msgspec.Struct, frozen=True):
    """Describes one image."""

    id: str
    tags: list[str]
    bytes: int


class ImagesResult(Result, frozen=True):
    """Holds images."""

    images: list[Image]
    truncated: bool


DOCKER_IMAGES: Final = meta(
    "docker_images",
    NoArgs,
    ImagesResult,
    risk="R2",
    timeout=30,
    description="List the images of the container engine.",
    examples=({},),
)


@DOCKER_IMAGES.tool
async def docker_images(_: NoArgs) -> ImagesResult:
    """List them."""
    listed = connected().get("/images/json") or []
    images = (
        Image(
            str(each["Id"]).removeprefix("sha256:")[:12], list(each.get("RepoTags") or []), int(each["Size"])
        )
        for each in listed
    )
    kept, cut = output.cut_items(images, 500)
    return ImagesResult(images=kept, truncated=cut)


class InspectArgs(Args, frozen=True):
    """Names a container or an image."""

    container: str | None = None
    image: str | None = None


class InspectResult(Result, frozen=True):
    """Holds the engine's description, with the values of the environment masked."""

    object: dict[str, Any]


DOCKER_INSPECT: Final = meta(
    "docker_inspect",
    InspectArgs,
    InspectResult,
    risk="R2",
    timeout=30,
    description="Describe a container or an image; values of its environment are masked.",
    examples=({"container": "web"}, {"image": "epad-test:latest"}),
)


@DOCKER_INSPECT.tool
async def docker_inspect(args: InspectArgs) -> InspectResult:
    """Describe one of the two."""
    if (args.container is None) == (args.image is None):
        raise ToolError("give either `container` or `image`", "docker_ps and docker_images show the names")
    path = container_path(args.container) if args.container is not None else image_path(args.image or "")
    told = masked(connected().get(f"{path}/json"))
    return InspectResult(object=output.whole(told, "docker_ps tells less"))


def masked(value: Any) -> Any:
    """Return a description without values of an environment, and with what looks like a key masked everywhere."""
    match value:
        case dict():
            return {
                name: _environment(item) if name == "Env" else masked(item) for name, item in value.items()
            }
        case list():
            return [masked(item) for item in value]
        case str():
            # Ids of images and containers are known, and look like keys.
            return value if _is_id(value) else environment_shown.masked(value)
        case _:
            return value


def _environment(value: Any) -> Any:
    return [f"{str(each).partition('=')[0]}={environment_shown.MASK}" for each in value or []]


def _is_id(value: str) -> bool:
    digits = value.rpartition("sha256:")[2]
    return len(digits) == 64 and all(each in "0123456789abcdef" for each in digits)


class StatsArgs(Args, frozen=True):
    """Names a container."""

    container: str


class StatsResult(Result, frozen=True):
    """Tells the use of a container since it began: CPU in seconds, memory and transfers in bytes."""

    cpu: float
    memory: int
    memory_limit: int
    read: int
    written: int


DOCKER_STATS: Final = meta(
    "docker_stats",
    StatsArgs,
    StatsResult,
    risk="R2",
    timeout=30,
    description="Tell CPU time, memory and disk transfers of a running container.",
    examples=({"container": "web"},),
)


@DOCKER_STATS.tool
async def docker_stats(args: StatsArgs) -> StatsResult:
    """Take one sample."""
    told = connected().get(f"{container_path(args.container)}/stats", stream="false", **{"one-shot": "true"})
    blocks = (told.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
    memory = told.get("memory_stats") or {}

    def moved(operation: str) -> int:
        return sum(int(each["value"]) for each in blocks if str(each.get("op", "")).lower() == operation)

    return StatsResult(
        cpu=round(told["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9, 3),
        memory=int(memory.get("usage", 0)),
        memory_limit=int(memory.get("limit", 0)),
        read=moved("read"),
        written=moved("write"),
    )


(docker_exec, docker_run, docker_stop) = (
    docker_changes.docker_exec,
    docker_changes.docker_run,
    docker_changes.docker_stop,
)
TOOLS: Final = (DOCKER_IMAGES, DOCKER_INSPECT, DOCKER_LOGS, DOCKER_PS, DOCKER_STATS, *docker_changes.TOOLS)
