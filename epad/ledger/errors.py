"""Define the errors of the turn ledger."""

from __future__ import annotations

from epad import EpadError


class LedgerError(EpadError):
    """The ledger did not take, give or check a record."""


class RecordError(LedgerError):
    """A record's bytes cannot be read as a record."""


class LedgerBusyError(LedgerError):
    """More turns wait for the disk than `ledger.waiting_turns` allows."""


class LedgerUnavailableError(LedgerError):
    """The ledger's file cannot be read or written now."""


class HeadError(LedgerError):
    """A head cannot be read, or not be believed."""


class SegmentError(LedgerError):
    """A sealed segment has changed since it was sealed."""
