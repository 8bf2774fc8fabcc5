"""The configuration: its types, reading it, checking it, and what changed between two."""
