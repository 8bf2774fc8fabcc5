"""One file per thing watched; each turns what it sees into findings."""
