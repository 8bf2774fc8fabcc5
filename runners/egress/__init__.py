"""The way out: the proxy through which a confined subsystem reaches the hosts that its policy names."""
