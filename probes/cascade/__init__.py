"""Trouble that spreads: which subsystem is the root, which are its victims, and who keeps crashing."""

from __future__ import annotations

from probes.cascade.attribution import Attribution, CascadeIncident
from probes.cascade.crashes import MAX_REMEMBERED
from probes.cascade.graph import DependencyGraph
from probes.cascade.node import Look, LookRule, NodeHealth
from probes.cascade.probe import NAME, Cascade, Neighbourhood, exited_cleanly
from probes.cascade.settings import CascadeSettings

__all__ = [
    "MAX_REMEMBERED",
    "NAME",
    "Attribution",
    "Cascade",
    "CascadeIncident",
    "CascadeSettings",
    "DependencyGraph",
    "Look",
    "LookRule",
    "Neighbourhood",
    "NodeHealth",
    "exited_cleanly",
]
