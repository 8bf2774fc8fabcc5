"""Who may do what: the tiers of callers and the table of operations."""
