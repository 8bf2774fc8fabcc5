"""Fixtures that the tests of `epactl` use as well."""

from control_door import directory, door

__all__ = ["directory", "door"]
