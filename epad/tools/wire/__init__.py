"""The wire of the tool door: MCP in both of its eras, and plain JSON, over the gateway's HTTP server."""
