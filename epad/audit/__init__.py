"""Bring what is done, decided and refused into the ledger's one chain, and read it back: rows, exports, a report."""
