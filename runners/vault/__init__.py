"""Keep epad's own stores in one file: memory, tasks, channels and prompts. It runs as one child of the daemon."""
