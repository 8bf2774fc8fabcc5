"""Load the definitions of all tools from a child, and check them: the daemon never imports a tool."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from epad import EpadError
from epad.gate.tool_risk import ToolRisk, UnknownRiskError, gravest
from epad.tools.protocol import Definition

ROOT: Final = Path(__file__).parents[2]
"""The directory that `runners` is imported from, in the child alone."""
COMMAND: Final = (sys.executable, "-P", "-m", "runners.tools", "--catalogue")
_ENVIRONMENT: Final = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
LOAD_SECONDS: Final = 60.0
_MOST_BYTES: Final = 4 << 20
_is_name = re.compile("[a-z][a-z0-9_]{0,63}").fullmatch
_is_hash = re.compile("[0-9a-f]{64}").fullmatch


class CatalogueError(EpadError):
    """The definitions of tools cannot be loaded; the message says which, and why."""


class _Told(Struct, frozen=True):
    """A definition as the child prints it."""

    name: str
    category: str
    description: str
    risk: str
    timeout: float
    inputSchema: dict[str, Any]  # noqa: N815 (the protocol's word)
    outputSchema: dict[str, Any]  # noqa: N815
    sha256: str
    untrusted: bool = False
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Holds all definitions by name, sorted, and the risk of each. `sha256` changes if any of them does."""

    definitions: Mapping[str, Definition] = field(default_factory=dict)
    risks: Mapping[str, ToolRisk] = field(default_factory=dict)
    sha256: str = ""
    also: Mapping[str, str] = field(default_factory=dict)
    """Further names that tools may be called by, with those that they are listed by."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Return the names of all categories, sorted."""
        return tuple(sorted({one.category for one in self.definitions.values()}))


async def load(command: Sequence[str] = COMMAND, seconds: float = LOAD_SECONDS) -> Catalogue:
    """Have a child print the definitions, and read them. Raises CatalogueError."""
    try:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_ENVIRONMENT,
            cwd="/",
        )
    except OSError as error:
        raise CatalogueError(
            f"the catalogue of tools: {command[0]} cannot be run: {error.strerror}"
        ) from error
    try:
        printed, errors = await asyncio.wait_for(child.communicate(), seconds)
    except TimeoutError as error:
        raise CatalogueError(f"the catalogue of tools was not printed within {seconds:g} s") from error
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise CatalogueError(f"the catalogue of tools: its child ended with {child.returncode}: {last}")
    return parse(printed)


def parse(printed: bytes) -> Catalogue:
    """Read what the child prints. Raises CatalogueError that names the definition."""
    if len(printed) > _MOST_BYTES:
        raise CatalogueError(f"the catalogue of tools has {len(printed)} bytes, more than {_MOST_BYTES}")
    try:
        told = msgspec.json.decode(printed, type=list[_Told])
    except msgspec.MsgspecError as error:
        raise CatalogueError(f"the catalogue of tools cannot be read: {error}") from error
    definitions: dict[str, Definition] = {}
    risks: dict[str, ToolRisk] = {}
    for one in sorted(told, key=lambda each: each.name):
        if one.name in definitions:
            raise CatalogueError(f"the tool {one.name} is defined twice")
        risks[one.name] = _checked(one)
        definitions[one.name] = Definition(
            one.name,
            one.category,
            one.description,
            one.risk,
            one.timeout,
            one.inputSchema,
            one.outputSchema,
            one.sha256,
            one.untrusted,
            one.leaves,
        )
    digest = sha256("".join(f"{name} {one.sha256}\n" for name, one in definitions.items()).encode())
    return Catalogue(definitions, risks, digest.hexdigest())


def _checked(told: _Told) -> ToolRisk:
    """Return the risk of a definition that can be used. Raises CatalogueError."""
    for text in (told.name, told.category):
        if _is_name(text) is None:
            raise CatalogueError(f"{text!r} is no name of a tool or category: a-z, 0-9 and _, 64 at most")
    if told.timeout <= 0:
        raise CatalogueError(
            f"the tool {told.name} has a timeout of {told.timeout:g} s; it takes more than 0"
        )
    if _is_hash(told.sha256) is None:
        raise CatalogueError(f"the tool {told.name} has no SHA-256 of its definition")
    if told.inputSchema.get("type") != "object":
        raise CatalogueError(f"the tool {told.name} has an inputSchema whose type is not object")
    try:
        return gravest(told.risk)
    except UnknownRiskError as error:
        raise CatalogueError(f"the tool {told.name}: {error}") from error
