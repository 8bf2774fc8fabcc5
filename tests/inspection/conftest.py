"""Fixtures that the tests of datastores use as well."""

from store_fixtures import _short_patience, make_store

__all__ = ["_short_patience", "make_store"]
