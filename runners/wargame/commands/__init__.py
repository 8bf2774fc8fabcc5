"""Implement each command of the command line."""
