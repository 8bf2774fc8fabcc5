"""Counters and gauges, and the HTTP surface that shows them."""
