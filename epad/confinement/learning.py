"""Propose the smallest policy for a recording of a program, and name the requests that are never proposed.

A file that was read becomes a rule for itself; several in one directory, or a directory that was listed, a rule for
that, unless it is too broad: the root, a directory below it, a home and the directories above it. Written files lie in
one workspace. Keys, sessions, files that others run, epad's own files and services of this machine are left out, and
named with the reason.
"""

from __future__ import annotations

import ipaddress
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from epad.configuration.confine_schema import ConfineConfig
from epad.confinement.places import MACHINE_SECRETS, SECRETS
from epad.confinement.policy import Access, HostRequest, Policy, access_at, allows, is_below
from epad.confinement.recording import Recording
from runners.egress.addresses import why_not_public

SIBLINGS: Final = 3
"""So many files of one directory make a rule for the directory."""
_GPU: Final = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
_KERNEL: Final = ("/proc", "/sys", "/dev")
_SHARED_AT_HOME: Final = (".cache", ".config", ".local", ".local/lib", ".local/share", ".local/state")
_EPHEMERAL_PORTS: Final = 32_768
"""From here on the kernel chooses ports by itself (ip_local_port_range): most likely its own server's."""
_NAME_SERVICES: Final = ("/run/nscd", "/var/run/nscd", "/run/systemd/resolve")

PolicyOf = Callable[[ConfineConfig], Policy]
"""Resolves a table to the policy of the subsystem that was recorded."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Holds a table, and the requests of the program that the table does not allow, each with the reason."""

    confine: ConfineConfig
    left_out: tuple[str, ...] = ()


def propose(
    recording: Recording, policy_of: PolicyOf, home: str, gateway_ports: Iterable[int] = ()
) -> Proposal:
    """Return the smallest policy for the requests of a recording, and the requests that it leaves out."""
    return _Learner(recording, policy_of, home, frozenset(gateway_ports)).propose()


class _Learner:
    """Goes through a recording: writes first, since they say where the workspace is."""

    def __init__(
        self, recording: Recording, policy_of: PolicyOf, home: str, gateway_ports: frozenset[int]
    ) -> None:
        self._recording = recording
        self._policy_of = policy_of
        self._home = home
        self._gateway_ports = gateway_ports
        self._left_out: dict[str, str] = {}

    def propose(self) -> Proposal:
        workspace = self._workspace(self._policy_of(ConfineConfig()))
        everything = self._recording.read | self._recording.written
        confine = ConfineConfig(
            workspace=workspace,
            hosts=self._hosts(),
            gpu=any(path.startswith(_GPU) for path in everything),
        )
        policy = self._policy_of(confine)
        self._name_protected(policy)
        read = self._read(policy)
        self._name_sockets(policy)
        lines = tuple(f"{what}: {why}" for what, why in sorted(self._left_out.items()))
        return Proposal(
            ConfineConfig(workspace=workspace, read=read, hosts=confine.hosts, gpu=confine.gpu), lines
        )

    def _workspace(self, policy: Policy) -> str:
        """Return the directory that has all that was written elsewhere; empty if nothing was."""
        lasting = self._recording.written - self._recording.passing
        outside = [path for path in lasting if self._is_written_outside(policy, path)]
        if not outside:
            return ""
        around = {str(parent) for path in outside for parent in PurePosixPath(path).parents}
        folders = [path if path in around else os.path.dirname(path) for path in outside]  # noqa: PTH120
        common = os.path.commonpath(folders)
        if not self._is_broad(common):
            return common
        roots = Counter(self._outermost_around(folder) for folder in folders)
        chosen, _ = max(roots.items(), key=lambda item: (item[1], item[0]))
        for root in roots.keys() - {chosen}:
            self._left_out[f"write {root}"] = f"a subsystem has one workspace, and wrote more below {chosen}"
        return chosen

    def _is_written_outside(self, policy: Policy, path: str) -> bool:
        access = access_at(policy, path)
        if access is Access.WRITE or self._is_secret(path) or is_below(path, policy.workspace):
            return False
        if access is Access.OWN:
            # A cache below the home may begin empty each time; a file that a person finds there may not.
            return is_below(path, self._home) and not self._below_home(path).startswith(".")
        return not _is_of_the_kernel(path)

    def _name_protected(self, policy: Policy) -> None:
        """Name the written files that stay read-only, or out of reach."""
        for path in self._recording.written:
            if self._is_secret(path) or _is_hidden(policy, path):
                self._left_out.setdefault(f"write {path}", self._why(path))
            elif access_at(policy, path) is Access.READ:
                self._left_out[f"write {path}"] = "it is run, or obeyed, outside of the cell"

    def _read(self, policy: Policy) -> tuple[str, ...]:
        """Return the roots of all that was read and that nothing else gives."""
        recording = self._recording
        needed = [path for path in recording.read | recording.listed if not self._is_broad(path)]
        needed = [path for path in needed if self._is_needed(policy, path)]
        files, folders = recording.read.intersection(needed), recording.listed.intersection(needed)
        siblings = Counter(os.path.dirname(path) for path in files)  # noqa: PTH120
        folders |= {
            path for path, count in siblings.items() if count >= SIBLINGS and not self._is_broad(path)
        }
        return _outermost(folders | files)

    def _is_needed(self, policy: Policy, path: str) -> bool:
        if access_at(policy, path) >= Access.READ or _is_of_the_kernel(path):
            return False
        if any(is_below(path, made) for made in self._recording.created):
            return False
        if self._is_secret(path) or _is_hidden(policy, path):
            self._left_out.setdefault(f"read {path}", self._why(path))
            return False
        return True

    def _hosts(self) -> tuple[str, ...]:
        rules = set()
        for address, port in self._recording.connected:
            if ipaddress.ip_address(address).is_loopback:
                own = port in self._recording.ports | self._gateway_ports or port >= _EPHEMERAL_PORTS
                if not own:
                    what = f"connect {address}:{port}"
                    self._left_out[what] = "a service of this machine; hosts can name it, if it is meant"
                continue
            rules.add(self._rule(address, port))
        return tuple(sorted(rules))

    def _rule(self, address: str, port: int) -> str:
        name = self._recording.names.get(address, "")
        place = f"[{address}]" if ":" in address else address
        if name and why_not_public(address):
            name = f"{name}={place}"
        host = name or place
        return host if port == 443 else f"{host}:{port}"

    def _name_sockets(self, policy: Policy) -> None:
        for path in self._recording.sockets:
            own = access_at(policy, path) is Access.WRITE or path in self._recording.created
            if path.startswith("/") and not own and not path.startswith(_NAME_SERVICES):
                self._left_out[f"connect {path}"] = "a socket of this machine"

    def _is_secret(self, path: str) -> bool:
        secrets = (*(f"{self._home}/{name}" for name in SECRETS), *MACHINE_SECRETS)
        return any(is_below(path, secret) for secret in secrets)

    def _why(self, path: str) -> str:
        return (
            "keys and sessions are never given"
            if self._is_secret(path)
            else "epad's own files are never given"
        )

    def _below_home(self, path: str) -> str:
        return path.removeprefix(self._home).lstrip("/")

    def _is_broad(self, path: str) -> bool:
        """Tell if a directory has more in it than one program's files."""
        shared = {f"{self._home}/{name}" for name in _SHARED_AT_HOME}
        return path.count("/") <= 1 or is_below(self._home, path) or path in shared

    def _outermost_around(self, folder: str) -> str:
        """Return the outermost directory with a folder in it that is not too broad; the folder itself if all are."""
        around = [folder, *map(str, PurePosixPath(folder).parents)]
        return next((path for path in reversed(around) if not self._is_broad(path)), folder)


def refused(recording: Recording, policy: Policy) -> tuple[str, ...]:
    """Return the requests of a recording that a policy refuses; in the cell's own places, for files it has not made."""
    made = recording.created

    def can_see(path: str) -> bool:
        access = access_at(policy, path)
        own = access is Access.OWN and any(is_below(path, one) for one in made)
        around = any(is_below(rule.path, path) and rule.access is not Access.NONE for rule in policy.files)
        return own or around or access >= Access.READ or _is_of_the_kernel(path)

    def can_write(path: str) -> bool:
        return access_at(policy, path) in {Access.OWN, Access.WRITE}

    uses = (("read", recording.read | recording.listed, can_see), ("write", recording.written, can_write))
    found = [f"{verb} {path}" for verb, paths, can in uses for path in paths if not can(path)]
    for address, port in recording.connected:
        name = recording.names.get(address, address)
        where = address if why_not_public(address) or name == address else ""
        is_own = ipaddress.ip_address(address).is_loopback
        if not is_own and not allows(policy, HostRequest(name, port, where)):
            found.append(f"connect {name}:{port}")
    return tuple(sorted(found))


def _is_of_the_kernel(path: str) -> bool:
    """Tell if a path is no file of a disk; a cell has its own."""
    return any(is_below(path, root) for root in _KERNEL) and not is_below(path, "/dev/shm")  # noqa: S108


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths that lie below no other."""
    every = set(paths)
    above = {path: {str(parent) for parent in PurePosixPath(path).parents} for path in every}
    return tuple(sorted(path for path in every if not above[path] & every))


def _is_hidden(policy: Policy, path: str) -> bool:
    """Tell if a rule takes a path out, so that no rule for a directory around it gives it."""
    above = [rule for rule in policy.files if is_below(path, rule.path)]
    return bool(above) and max(above, key=lambda rule: len(rule.path)).access is Access.NONE
