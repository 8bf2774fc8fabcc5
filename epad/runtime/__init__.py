"""What any long-running process needs: clocks, timers, log output, systemd, descriptors, memory."""
