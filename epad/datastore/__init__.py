"""Stores that other programs write (knowledge graphs, memory files): looked at in children, restored in RECOVERY."""
