"""How models are asked: one client for each endpoint, with bounded patience and measured concurrency."""
