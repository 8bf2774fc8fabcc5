"""Hold the tiers of callers and their permissions."""
