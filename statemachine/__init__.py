"""Decide when the phase changes, and nothing else: pure values and decisions, no I/O."""
