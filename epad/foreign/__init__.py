"""Run MCP servers that others wrote behind the gate: confined, with pinned definitions, each failing its own calls."""
