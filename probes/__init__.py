"""Watch one thing per file; each probe turns its readings into findings."""
