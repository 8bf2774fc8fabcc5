"""Everything that can be asked of the running daemon."""
