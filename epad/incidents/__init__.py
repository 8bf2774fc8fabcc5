"""Word troubles and holds as sentences, in one place."""
