"""`[intent]`: the classifier that tells what turns are for."""

from __future__ import annotations

from msgspec import Struct


class IntentConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets whether turns are screened."""

    enabled: bool
