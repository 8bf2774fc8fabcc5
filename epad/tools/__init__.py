"""The tool door: which tools a subsystem may call, each call gated and recorded; the tools run in children."""
