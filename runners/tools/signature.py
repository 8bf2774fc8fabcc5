"""Define one tool: its metadata, its types, its errors, and the context of a call.

A tool is `async def NAME(args: dict) -> dict`. Its arguments and its result are msgspec structs, from which the
advertised schemas are made, so that the advertised schema is the one that is checked. Its root, its limits and its
record of effects come by the context variable `CONTEXT`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import msgspec

Risk = Literal["P", "R1", "R2", "W0", "M1", "W1", "N1", "W2", "N2", "X1", "X2", "V1"]
DESCRIPTION_BYTES: Final = 200
END: Final = r"(?!\n)$"
"""Ends a pattern. Python's `$` alone fits before a last line break too; that of schemas, as advertised, does not."""

Address = tuple[str, int]
PathArg = str
"""A path below the workspace; `beneath.py` checks it. Without bounds in the schema, which would be there 60 times."""
ToolFunction = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
ArgsT = TypeVar("ArgsT", bound=msgspec.Struct)
ResultT = TypeVar("ResultT", bound=msgspec.Struct)


class Args(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Holds the arguments of a tool. An unknown name is an error that the caller can read."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the result of a tool."""


class ToolError(Exception):
    """A call that cannot be done: `message` names the thing and the place, `hint` the fix."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_dict(self) -> dict[str, str]:
        """Return the error as the caller gets it."""
        return {"error": self.message, "hint": self.hint}


@dataclass(slots=True)
class Kept:
    """Counts what a call keeps of former contents: the bytes of its session, -1 until they are counted.

    `lost` are the paths of which nothing is kept, the store being full.
    """

    used: int = -1
    number: int = 0
    lost: list[str] = field(default_factory=list)
    whole: str = ""
    """The whole of a text that the result has cut."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """Holds the surroundings of one call. Each effect is told at once, so that a killed call has told its effects."""

    root: int = -1
    """The descriptor of the workspace's directory; -1: this call has no files."""
    undo: int = -1
    """The descriptor of the directory that keeps before-images; -1: nothing is kept."""
    call: str = ""
    """The name of the call, under which its before-images are kept."""
    way_out: Address | None = None
    """The one address that the call may connect to: a proxy; None: this worker reaches no host."""
    browser: str = ""
    """The DevTools of the worker's browser, or why there is none; empty: this worker has none."""
    output_bytes: int = 64 << 10
    spill_bytes: int = 0
    """How long the whole of a result may be that is kept beside its cut one; 0: nothing is kept."""
    stays: bool = False
    """A person has consented to the host that is asked, and to no other that it leads to."""
    deadline: float = field(default_factory=lambda: time.monotonic() + 60)
    note_effect: Callable[[str, str | None, str | None], None] = lambda *_: None
    note_temporary: Callable[[str], None] = lambda _: None
    """Takes the path of a temporary file before it is made."""
    kept: Kept = field(default_factory=Kept)


_BY_DAEMON: Final = "answered_by_daemon"
"""The mark on the function of a tool that no worker does."""
CONTEXT: ContextVar[CallContext] = ContextVar("tool_call")


def is_by_daemon(function: ToolFunction) -> bool:
    """Tell if no worker does this tool."""
    return hasattr(function, _BY_DAEMON)


@dataclass(frozen=True, slots=True)
class ToolMeta:
    """Describes one tool. The function of the same name is in the same module."""

    name: str
    args: type[msgspec.Struct]
    result: type[msgspec.Struct]
    risk: Risk
    timeout: float
    description: str
    examples: tuple[Mapping[str, Any], ...]
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]

    def tool(self, function: Callable[[Any], Awaitable[msgspec.Struct]]) -> ToolFunction:
        """Wrap a function of structs into `async def NAME(args: dict) -> dict`. Raises ValueError for another name."""
        if getattr(function, "__name__", "") != self.name:
            raise ValueError(f"the function {function!r} stands below the metadata of {self.name!r}")

        async def call(args: dict[str, Any]) -> dict[str, Any]:
            try:
                result = await function(checked(self.args, args))
            except ToolError as error:
                return dict(error.as_dict())
            builtins: dict[str, Any] = msgspec.to_builtins(result)
            return builtins

        call.__name__ = call.__qualname__ = self.name
        call.__module__ = function.__module__
        call.__doc__ = self.description
        return call

    def answered_by_daemon(self) -> ToolFunction:
        """Return the function of a tool that no worker does: `epad/tools/own.py` does, by the types that are here."""

        async def call(args: dict[str, Any]) -> dict[str, Any]:
            checked(self.args, args)
            return ToolError(f"{self.name} is answered by the daemon", "call it through epad").as_dict()

        call.__name__ = call.__qualname__ = self.name
        call.__doc__ = self.description
        setattr(call, _BY_DAEMON, True)
        return call

    def definition(self, category: str) -> dict[str, Any]:
        """Return the definition as the catalogue prints it, with a hash of all that a caller sees of it."""
        seen = {
            "name": self.name,
            "category": category,
            "description": self.description,
            "risk": self.risk,
            "timeout": self.timeout,
            "inputSchema": dict(self.input_schema),
            "outputSchema": dict(self.output_schema),
        }
        return {**seen, "sha256": hashlib.sha256(msgspec.json.encode(seen, order="sorted")).hexdigest()}


def meta(
    name: str,
    args: type[msgspec.Struct],
    result: type[msgspec.Struct],
    *,
    risk: Risk,
    timeout: float,
    description: str,
    examples: tuple[Mapping[str, Any], ...],
) -> ToolMeta:
    """Return the metadata of a tool. Raises ValueError for a description that is too long, or no example."""
    if not 0 < len(description.encode()) <= DESCRIPTION_BYTES:
        raise ValueError(f"{name}: its description has over {DESCRIPTION_BYTES} bytes, or none")
    if not examples:
        raise ValueError(f"{name}: it has no example")
    schemas = object_schema(args), object_schema(result)
    return ToolMeta(name, args, result, risk, timeout, description, examples, *schemas)


def checked(kind: type[ArgsT], args: Mapping[str, Any]) -> ArgsT:
    """Return arguments as their struct. Raises ToolError that names the wrong argument."""
    try:
        return msgspec.convert(args, kind)
    except msgspec.ValidationError as error:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(kind)) or "none"
        raise ToolError(f"wrong arguments: {error}", f"the arguments are: {known}") from None


def object_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return a JSON schema whose root is an object (MCP wants no `$ref` there), without titles, types put in place."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    inlined = _inline(schema, components, ())
    assert isinstance(inlined, dict)  # noqa: S101 - tells mypy; a struct's schema is an object
    return inlined


def _inline(value: Any, components: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_inline(item, components, within) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(reference := value.get("$ref"), str):
        name = reference.rpartition("/")[2]
        # A type that holds itself has no finite schema; its inner values are told as any object.
        return (
            {"type": "object"} if name in within else _inline(components[name], components, (*within, name))
        )
    drop = {"title", "description"} if value.get("type") == "object" and "title" in value else {"title"}
    kept = {key: _inline(item, components, within) for key, item in value.items() if key not in drop}
    if isinstance(pattern := kept.get("pattern"), str):
        kept["pattern"] = pattern.replace(END, "$")
    if isinstance(choices := kept.get("anyOf"), list) and kept.get("default", ...) is None:
        # An argument that may be left out: null, which is the same, would only be noise.
        given = [choice for choice in choices if choice != {"type": "null"}]
        kept = given[0] if len(given) == 1 else {"anyOf": given}
    if not kept.get("required", True):
        del kept["required"]
    return kept
