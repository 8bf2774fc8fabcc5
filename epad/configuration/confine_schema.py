"""`[subsystems.NAME.confine]` and `[confine]`: the policy of a subsystem's processes."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

ProfileName = Literal["open", "gateway-only", "workspace", "sealed"]


class ConfineConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the policy of a subsystem's processes; a subsystem without this table is as `[confine] default` says.

    docs/confinement.md explains the profiles.
    """

    profile: ProfileName = "workspace"
    workspace: str = ""
    read: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    intercept: tuple[str, ...] = ()
    ask: bool = False
    gpu: bool = False
    decoys: bool = False
    require: Literal["all", "best"] = "all"


class HouseConfineConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how subsystems without a table `confine` are confined."""

    default: Literal["open", "workspace"] = "open"
