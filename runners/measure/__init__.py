"""Digest what a command runs: its program, its scripts, what they import under their own folders, its models."""
