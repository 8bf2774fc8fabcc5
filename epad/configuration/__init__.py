"""The configuration: its types, reading it from files, checking it, and describing it."""
