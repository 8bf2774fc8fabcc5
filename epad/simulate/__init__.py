"""Record the inputs of decisions, and replay them under other thresholds."""
