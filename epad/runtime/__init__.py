"""Provide the needs of any long-running process: clocks, timers, log output, systemd, descriptors, memory."""
