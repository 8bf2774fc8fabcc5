"""`epactl`, the operator's command line."""
