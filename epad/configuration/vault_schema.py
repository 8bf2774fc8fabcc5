"""`[vault]`: the knowledge vault, whose documents agents only read."""

from __future__ import annotations

from fnmatch import fnmatchcase

from msgspec import Struct

from epad.gate.tiers import TierName, tier_of


class VaultConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets where documents are kept, what reading them makes of a session, and what sessions append to."""

    directory: str = ""
    private: tuple[str, ...] = ()
    untrusted: tuple[str, ...] = ()
    append: dict[str, TierName] = {}

    def tier_to_append(self, path: str) -> TierName | None:
        """Return the lowest tier whose sessions append to a path, by the strictest pattern; None: none does."""
        tiers = [tier for pattern, tier in self.append.items() if fnmatchcase(path, pattern)]
        return max(tiers, key=lambda label: tier_of(label, has_workspace=False), default=None)

    def is_private(self, path: str) -> bool:
        """Tell if reading a path makes a session private."""
        return any(fnmatchcase(path, pattern) for pattern in self.private)

    def is_untrusted(self, path: str) -> bool:
        """Tell if a path holds what others wrote."""
        return any(fnmatchcase(path, pattern) for pattern in self.untrusted)
