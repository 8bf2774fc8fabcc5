"""Define the errors, in the user's words: each message names the thing, the place and the fix."""

from __future__ import annotations


class HsaqError(Exception):
    """The quantizer cannot go on."""


class SettingsError(HsaqError):
    """The settings make no sense, or contradict each other."""


class CheckpointError(HsaqError):
    """The model's files cannot be used as they are."""


class PreflightError(HsaqError):
    """Something would fail later, after hours; every such layer is named."""


class BudgetError(HsaqError):
    """No allocation fits under the ceiling and keeps the floors."""


class StaleError(HsaqError):
    """The work directory or cache belongs to other inputs; mixing them would be a silent lie."""


class NotFiniteError(HsaqError):
    """A solver made NaN or infinity, or a weight held it."""


class ControlError(HsaqError):
    """A control failed: the run measures something else than it says, and is INVALID."""


class ExportError(HsaqError):
    """A written file does not hold, or does not load as, the quantized weights."""
