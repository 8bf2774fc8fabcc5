"""A policy: the absolute paths, parsed hosts and abilities that the processes of one subsystem may reach.

Files are a set of rules. **The deepest rule above a path decides about it**, whichever stands first: below `/home/me` a
rule for `/home/me/.ssh` takes that directory out again. So two policies can be compared exactly (`difference.py`), and
a cell makes its mounts in the order of their depth.

`allows` is the judge of single requests: cells and the way out are built to agree with it.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from epad.configuration.confine_schema import ConfineConfig, ProfileName
from epad.configuration.confining import confine_of
from epad.configuration.directories import Directories
from epad.configuration.schema import Config
from epad.confinement.places import (
    GPU,
    MACHINE_SECRETS,
    OWN,
    PROTECTED,
    PROTECTED_AT_HOME,
    SECRETS,
    SOCKETS,
    SYSTEM,
    SYSTEM_SETTINGS,
)
from epad.confinement.program_files import program_roots
from runners.egress.rules import HTTPS_PORT, HostRule, first_match, parse


class Access(enum.IntEnum):
    """The access that a rule gives to the files below its path."""

    NONE = 0
    OWN = 1
    """A place of the cell's own, empty at its start; nothing of the machine's files there."""
    READ = 2
    WRITE = 3


class Ability(enum.Enum):
    """An ability that a policy gives beside files and hosts."""

    MODEL = "reach a model through epad's gateway"
    GPU = "use the GPUs"
    MACHINE = "make every system call, and reach the sockets and processes of this machine"
    UNWALLED = "run although a wall cannot be had"


@dataclass(frozen=True, slots=True, order=True)
class FileRule:
    """Gives access to a path and the files below it, but for the paths of deeper rules."""

    path: str
    access: Access


@dataclass(frozen=True, slots=True)
class FileRequest:
    """Asks to read or write a file of the machine."""

    path: str
    write: bool = False


@dataclass(frozen=True, slots=True)
class HostRequest:
    """Asks for a connection to a host, in the form of `rules.host_name`.

    `address` is where it is found: empty for wherever its name leads among public addresses.
    """

    host: str
    port: int
    address: str = ""


@dataclass(frozen=True, slots=True)
class AbilityRequest:
    """Asks to use an ability."""

    ability: Ability


@dataclass(frozen=True, slots=True, order=True)
class SecretRequest:
    """Asks to send a secret to a host, without ever seeing it."""

    name: str
    host: str


@dataclass(frozen=True, slots=True)
class UnreadRequest:
    """Asks to send a host, by TLS at port 443, what epad cannot read."""

    host: str


Request = FileRequest | HostRequest | AbilityRequest | SecretRequest | UnreadRequest


@dataclass(frozen=True, slots=True)
class Policy:
    """The files, hosts and abilities of one subsystem. `files` is in the order of paths, and has one rule a path.

    `directory` is where its program starts. With `ask` a host that no rule names waits for a person. With `decoys`
    keys that open nothing are shown to it. The TLS to a host of `intercept` is read.
    """

    subsystem: str
    profile: ProfileName
    workspace: str
    directory: str
    files: tuple[FileRule, ...]
    hosts: tuple[HostRule, ...] = ()
    every_host: bool = False
    abilities: frozenset[Ability] = frozenset()
    secrets: frozenset[SecretRequest] = frozenset()
    ask: bool = False
    decoys: bool = False
    intercept: frozenset[str] = frozenset()

    @property
    def confined(self) -> bool:
        """Tell if there is any wall."""
        return self.profile != "open"

    @property
    def gpu(self) -> bool:
        return Ability.GPU in self.abilities

    @property
    def require_all(self) -> bool:
        """Tell if a start without one of the walls is refused."""
        return Ability.UNWALLED not in self.abilities

    def paths(self, access: Access) -> tuple[str, ...]:
        """Return the paths whose rules give an access."""
        return tuple(rule.path for rule in self.files if rule.access is access)


def is_below(path: str, root: str) -> bool:
    """Tell if a path is a root or lies below it."""
    return path == root or path.startswith(root if root == "/" else f"{root}/")


def access_at(policy: Policy, path: str) -> Access:
    """Return the access that the deepest rule above a path gives; none without a rule."""
    found = [rule for rule in policy.files if is_below(path, rule.path)]
    return max(found, key=lambda rule: len(rule.path)).access if found else Access.NONE


def allows(policy: Policy, request: Request) -> bool:
    """Judge one request."""
    match request:
        case FileRequest(path, write):
            return access_at(policy, path) >= (Access.WRITE if write else Access.READ)
        case HostRequest(host, port, address):
            rule = first_match(policy.hosts, host, port)
            return policy.every_host or (rule is not None and rule.pinned == address)
        case AbilityRequest(ability):
            return ability in policy.abilities
        case SecretRequest():
            return request in policy.secrets
        case UnreadRequest(host):
            reached = policy.every_host or first_match(policy.hosts, host, HTTPS_PORT) is not None
            return reached and host not in policy.intercept


OPEN_ABILITIES: Final = frozenset(Ability)


def policy_of(
    name: str,
    config: Config,
    directories: Directories,
    home: Path,
    *,
    search_path: str = os.defpath,
    resolve: Callable[[str], str] = os.path.realpath,
) -> Policy:
    """Return the policy of a configured subsystem. `resolve` follows the links of a path, `search_path` is its PATH."""
    spec, confine = config.subsystems[name], confine_of(name, config)
    own = str(directories.work(name))

    def place(text: str) -> str:
        return real_path(text, home, resolve)

    directory = place(spec.working_directory or own)
    workspace = place(confine.workspace) if confine.workspace else directory
    if confine.profile == "open":
        files = (FileRule("/", Access.WRITE),)
        return Policy(name, "open", workspace, directory, files, (), True, OPEN_ABILITIES)
    roots = _Roots(workspace, directory, place(own), place(str(home)))
    # A link is shown as well as what it leads to: programs go by its name.
    read = [path for text in confine.read for path in (real_path(text, home, str), place(text))]
    program = program_roots(spec.command, directory, search_path, resolve)
    read += [root for root in program if not _within(root, (workspace, directory))]
    read += GPU if confine.gpu else ()
    never = [_normal(f"{workspace}/{path}") for path in confine.never]
    hidden = _hidden(confine.profile, directories, home, place)
    hidden += [place(secret.file) for secret in config.secrets.values() if secret.file]
    rules = roots.rules_below(confine.profile, never, hidden)
    nowhere = [path for path, access in rules.items() if access is Access.NONE]
    readable = [path for path in read if not _within(path, nowhere) or _within(path, [roots.own])]
    rules = {**_base(confine.profile, roots, readable), **rules}
    return Policy(
        name,
        confine.profile,
        workspace,
        directory,
        tuple(FileRule(path, access) for path, access in sorted(rules.items())),
        _hosts(confine),
        abilities=frozenset(_abilities(confine, gateway=spec.gateway)),
        secrets=frozenset(_secrets(confine, config)),
        ask=confine.ask and confine.profile != "sealed",
        decoys=confine.decoys,
        intercept=frozenset(confine.intercept) if confine.profile != "sealed" else frozenset(),
    )


@dataclass(frozen=True, slots=True)
class _Roots:
    """The directories of one subsystem; `own` is that in epad's state."""

    workspace: str
    directory: str
    own: str
    home: str

    def rules_below(
        self, profile: ProfileName, never: Iterable[str], hidden: Iterable[str]
    ) -> dict[str, Access]:
        """Return the rules that take something out again, and those of the subsystem's own directories."""
        own = Access.READ if profile == "sealed" else Access.WRITE
        mine = dict.fromkeys((self.workspace, self.directory), own)
        rules = dict.fromkeys(hidden, Access.NONE)
        kept = {path: access for path, access in mine.items() if path == self.own or not _within(path, rules)}
        rules |= kept
        for root in kept:
            if root != self.own:
                rules |= dict.fromkeys((_normal(f"{root}/{name}") for name in PROTECTED), Access.READ)
            if own is Access.WRITE and is_below(self.home, root):
                names = (*PROTECTED, *PROTECTED_AT_HOME)
                rules |= dict.fromkeys((_normal(f"{self.home}/{name}") for name in names), Access.READ)
        return rules | dict.fromkeys(never, Access.READ)


def _base(profile: ProfileName, roots: _Roots, readable: Iterable[str]) -> dict[str, Access]:
    """Return the rules of a profile, without those that take something out again."""
    if profile == "gateway-only":
        return {
            "/": Access.WRITE,
            **dict.fromkeys(SOCKETS, Access.NONE),
            **dict.fromkeys(OWN, Access.OWN),
        }
    rules = dict.fromkeys((*SYSTEM, *SYSTEM_SETTINGS), Access.READ)
    rules |= dict.fromkeys((*OWN, "/run"), Access.OWN)
    read = dict.fromkeys(readable, Access.READ)
    if profile == "workspace" and not _within(roots.home, (*rules, *read, roots.workspace, roots.directory)):
        rules[roots.home] = Access.OWN
    return rules | read


def _hosts(confine: ConfineConfig) -> tuple[HostRule, ...]:
    """Return the rules in one order, however they are written: the first of two for the same host decides."""
    rules = {parse(text) for text in confine.hosts} if confine.profile != "sealed" else set()
    return tuple(sorted(rules, key=str))


def _secrets(confine: ConfineConfig, config: Config) -> Iterator[SecretRequest]:
    if confine.profile != "sealed":
        for name in confine.secrets:
            yield from (SecretRequest(name, host) for host in config.secrets[name].hosts)


def _abilities(confine: ConfineConfig, *, gateway: bool) -> Iterator[Ability]:
    if gateway and confine.profile != "sealed":
        yield Ability.MODEL
    if confine.gpu:
        yield Ability.GPU
    if confine.require == "best":
        yield Ability.UNWALLED


def _hidden(
    profile: ProfileName, directories: Directories, home: Path, place: Callable[[str], str]
) -> list[str]:
    """Return the paths that no policy gives: the daemon's directories, its configuration, and keys and sessions."""
    chosen = directories.config_file
    own = (directories.state, directories.runtime, *((chosen, f"{chosen}.d") if chosen else ()))
    hidden = [place(str(path)) for path in own]
    if profile != "gateway-only":
        secrets = [*(f"{home}/{name}" for name in SECRETS), *MACHINE_SECRETS]
        hidden += [*map(_normal, secrets), *map(place, secrets)]  # a link to them, and what it leads to
    return hidden


def _within(path: str, roots: Iterable[str]) -> bool:
    return any(is_below(path, root) for root in roots)


def real_path(text: str, home: Path, resolve: Callable[[str], str]) -> str:
    """Return the path that a text means in the end; it may begin with `~/`."""
    path = str(home) + text[1:] if text == "~" or text.startswith("~/") else text
    return _normal(resolve(path))


def _normal(path: str) -> str:
    """Return a path from the root without `.`, `..` and doubled slashes; POSIX lets two stand at the beginning."""
    return os.path.normpath(f"/{path.lstrip('/')}")
