"""Carry out the operations of the running daemon."""
