"""The API on the Unix socket, and its client."""
