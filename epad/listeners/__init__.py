"""Provide the needs of every listener: accepting connections, limiting them, and checking the caller."""
