"""The secrets vault: each secret in a sealed file of its own, opened by name for whom and where it is bound to."""
