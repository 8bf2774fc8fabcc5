"""Stores that other programs write (knowledge graphs, memory files), read back in children and judged."""
