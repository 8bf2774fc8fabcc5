"""Hold the tiers of callers and of sessions, and the tables of their permissions."""
