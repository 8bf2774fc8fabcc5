"""Fixtures that the tests of the control API use as well."""

from control_door import directory, door

__all__ = ["directory", "door"]
