"""What would have happened under other thresholds: the recording of what was decided on, and its replay."""
