"""Numbers, sizes and durations as people read them; needs the standard library only."""
