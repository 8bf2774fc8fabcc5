"""Measure what each subsystem is at its start, tell of changes, and hold those that a person is to look at first."""
