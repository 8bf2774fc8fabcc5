"""Ask models: one client for each endpoint, with bounded patience and measured concurrency."""
