"""The status page: rendered on the server, readable without JavaScript, and on loopback only."""
