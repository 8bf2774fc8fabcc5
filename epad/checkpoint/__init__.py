"""Bundles: verified copies of the declared critical state, readable without epad."""
