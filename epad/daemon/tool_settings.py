"""Read from the configuration in force what tools have to know of a subsystem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from epad.configuration.schema import Config, SubsystemConfig
from epad.confinement.user import find_user
from epad.gate.tiers import Tier, tier_of
from epad.gate.tool_profile import Profile
from epad.gate.tool_table import Taint
from epad.tools.undo_store import Owner

_NO_TOOLS: Final = Profile(())


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """Answers for each subsystem, as of now; one that is configured no more has nothing.

    `config` returns the configuration in force, `directory` a configured subsystem's workspace, empty without one.
    """

    config: Callable[[], Config]
    directory: Callable[[str], str]

    def tier(self, subsystem: str) -> Tier:
        """Return the tier of a configured subsystem's sessions."""
        spec = self.config().subsystems[subsystem]
        return tier_of(spec.tier, has_workspace=bool(self.directory(subsystem)))

    def profile(self, subsystem: str) -> Profile:
        """Return the tools that a subsystem is given."""
        spec = self._of(subsystem)
        return _NO_TOOLS if spec is None else Profile(spec.tools)

    def calls_per_minute(self, subsystem: str) -> int:
        """Return how many calls a subsystem may make a minute; 0: no limit."""
        spec, every = self._of(subsystem), self.config().tools.calls_per_minute
        own = None if spec is None else spec.tool_calls_per_minute
        return every if own is None else own

    def output_tokens_per_hour(self, subsystem: str) -> int:
        """Return how many tokens tools may give back to a subsystem an hour; 0: no limit."""
        spec, every = self._of(subsystem), self.config().tools.output_tokens_per_hour
        own = None if spec is None else spec.tool_output_tokens_per_hour
        return every if own is None else own

    def workspace(self, subsystem: str) -> str:
        """Return the directory that a subsystem's tools work in; empty where it has none."""
        return "" if self._of(subsystem) is None else self.directory(subsystem)

    def sees_shared(self, subsystem: str) -> bool:
        """Tell if a subsystem reads the memory that a person has shared."""
        spec = self._of(subsystem)
        return spec is not None and spec.memory == "shared"

    def labels(self, subsystem: str) -> Taint:
        """Return the labels that its sessions have from their beginning: those of its workspace."""
        spec = self._of(subsystem)
        names = () if spec is None else spec.workspace_labels
        return Taint(sum(Taint[name.upper()] for name in set(names)))

    def synced(self) -> Sequence[str]:
        """Return the directories that the operator names as carried elsewhere."""
        return self.config().tools.synced

    def is_present(self, subsystem: str) -> bool:
        """Tell if a subsystem is configured still."""
        return self._of(subsystem) is not None

    def callers(self) -> Mapping[str, tuple[Tier, Profile]]:
        """Return the tier and the tools of each subsystem that may call some."""
        names = [name for name, spec in self.config().subsystems.items() if spec.gateway]
        return {name: (self.tier(name), self.profile(name)) for name in names}

    def _of(self, subsystem: str) -> SubsystemConfig | None:
        return self.config().subsystems.get(subsystem)


def owner_of(user: str) -> Owner | None:
    """Return the uid and gid of the other user whom a subsystem runs as; None if it runs as the daemon."""
    found = find_user(user)
    return None if found is None else (found.uid, found.gid)
