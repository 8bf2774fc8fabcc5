"""The work of each step: containment, preservation, recovery, replay, VRAM release, the last resort."""
