"""Judging whether a store of an agent's data is sound."""
