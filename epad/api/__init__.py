"""The control API on the Unix socket: its server, its routes and its client."""
