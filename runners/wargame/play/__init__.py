"""How rounds are played: written, judged, committed once, and never waited for without end."""
