"""Keep epad's own stores in a child of the daemon, and answer the tools on them."""
