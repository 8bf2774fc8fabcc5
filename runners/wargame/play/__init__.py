"""Play rounds: written, judged, committed once, and never waited for without end."""
