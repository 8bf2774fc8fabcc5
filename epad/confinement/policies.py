"""Resolve the policies of a configuration on this machine: homes, search paths and links are looked up here."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from epad.configuration.directories import Directories
from epad.configuration.schema import Config, SubsystemConfig
from epad.confinement.policy import Policy, policy_of, real_path


@dataclass(frozen=True, slots=True)
class Policies:
    """Makes policies. `environ` is the daemon's environment."""

    directories: Directories
    environ: Mapping[str, str]
    resolve: Callable[[str], str] = os.path.realpath

    def of(self, name: str, config: Config) -> Policy:
        """Return the policy of one subsystem."""
        spec = config.subsystems[name]
        return policy_of(
            name,
            config,
            self.directories,
            self._home(spec),
            search_path=spec.environment.get("PATH") or self.environ.get("PATH") or os.defpath,
            resolve=self.resolve,
        )

    def all(self, config: Config) -> dict[str, Policy]:
        """Return those of all subsystems with processes of epad's."""
        return {
            name: self.of(name, config) for name, spec in config.subsystems.items() if spec.kind == "process"
        }

    def path(self, text: str, spec: SubsystemConfig) -> str:
        """Return the path that a text in a subsystem's table means."""
        return real_path(text, self._home(spec), self.resolve)

    def _home(self, spec: SubsystemConfig) -> Path:
        """Return the home of whom a subsystem runs as: as its variables say, else of its user, else of the daemon's."""
        if home := spec.environment.get("HOME"):
            return Path(home)
        if spec.user:
            with suppress(KeyError):
                find = pwd.getpwuid(int(spec.user)) if spec.user.isdecimal() else pwd.getpwnam(spec.user)
                return Path(find.pw_dir)
        return Path(self.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir)
