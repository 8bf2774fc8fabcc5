"""Serve the SPIFFE Workload API: a child of epad's, which keeps the keys of the trust domain out of the daemon."""
