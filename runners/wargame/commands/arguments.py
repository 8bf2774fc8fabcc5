"""Arguments that several commands share, each checked when it is read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from runners.wargame.roles import ROLES
from runners.wargame.settings import IN_PROCESS

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - has no public name


def add_store(command: argparse.ArgumentParser) -> None:
    """Add the options for the store, one of its runs, and the form of the answer."""
    command.add_argument("--store", type=Path, default=Path("wargame.db"), help="default: %(default)s")
    command.add_argument("--run", metavar="ID", help="of a store with forks; default: the last one begun")
    command.add_argument("--json", action="store_true", help="JSON instead of text")


def add_plan(command: argparse.ArgumentParser) -> None:
    """Add the options for the models, their endpoints, and the limits."""
    add = command.add_argument
    add("--config", type=Path, help="endpoints, models, roles and limits as a TOML file: docs/wargame.md")
    add("--seed", type=int)
    add(
        "--scenarios",
        action="append",
        default=[],
        metavar="FILE",
        help=".toml or .jsonl, instead of the shipped",
    )
    add(
        "--include-train",
        action="store_true",
        help="play the families that embedded defenders learnt from too",
    )
    add(
        "--base-url",
        type=utf8,
        help="OpenAI-compatible, ending in /v1; default: epad's gateway, else embedded models",
    )
    add("--api-key", help="default: epad's key for this subsystem")
    add(
        "--max-in-flight", type=count, help="calls at one endpoint at most; found out by measuring up to this"
    )
    add(
        "--attacker-model", type=utf8, default="", help=f"{IN_PROCESS}: from the scenario file, without calls"
    )
    add("--defender-model", type=utf8, default="", help="one model for all five roles")
    add("--role-model", action="append", default=[], metavar="ROLE=MODEL", type=role_value)
    add("--role-weight", action="append", default=[], metavar="ROLE=WEIGHT", type=role_value)
    for name in ("call", "round", "backoff", "pause-first"):
        add(f"--{name}-seconds", type=seconds)
    add("--pause-limit-seconds", type=seconds, help="give up a pause then; 0 waits for ever")
    add("--retries", type=int)
    add("--breaker-failures", type=count)


def count(text: str) -> int:
    """Return a number from 1 up."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


def seconds(text: str) -> float:
    """Return a finite time from 0 up."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be seconds, 0 or more, not {text}")
    return number


def utf8(text: str) -> str:
    """Return a name that a store and a request can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"must be UTF-8, not {text!a}") from None
    return text


def role_value(text: str) -> tuple[str, str]:
    """`ROLE=VALUE` with a role that there is."""
    role, _, value = utf8(text).partition("=")
    if role not in {r.name for r in ROLES} or not value:
        raise argparse.ArgumentTypeError(f"expected ROLE=VALUE with a role of {[r.name for r in ROLES]}")
    return role, value
