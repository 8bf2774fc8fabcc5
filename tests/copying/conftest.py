"""Fixtures that the tests of checkpoints use as well."""

from bundle_fixtures import database, label, make_bundle

__all__ = ["database", "label", "make_bundle"]
