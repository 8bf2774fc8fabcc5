"""The base of every probe's settings: a subclass is the type of the table [probes.NAME] of the configuration.

A field is one row: its name, its type with the bounds, and nothing else about it stands in code. Its default and its
sentence stand in `epad/default.toml`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from msgspec import Struct, field

from probes.bounds import Bound, Fault, faults
from statemachine.enforcement import Enforce
from statemachine.value_types import Seconds


class ProbeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how often a probe looks, and what its findings are held against."""

    interval_seconds: Seconds

    BOUNDS: ClassVar[tuple[Bound, ...]] = ()
    """What holds between two fields."""

    DETECTORS: ClassVar[frozenset[str]] = frozenset()
    """The names of its detectors, where it has several; one goes by the probe's own name."""

    FINDS_AS: ClassVar[frozenset[str]] = frozenset()
    """The names beside the probe's own that its findings go by."""

    def faults(self) -> Iterator[Fault]:
        """Yield the settings that can never be reached, or always are."""
        yield from faults(self, self.BOUNDS)

    def enforced(self) -> Enforce:
        """Return what is said of its detectors; one that is not named holds."""
        return {}


class EnforcedSettings(ProbeSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of a probe whose findings hold their subsystem, unless they are only to be told."""

    enforce: Enforce = field(default_factory=dict)

    def enforced(self) -> Enforce:
        """Return what is said of its detectors; one that is not named holds."""
        return self.enforce
