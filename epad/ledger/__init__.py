"""The turn ledger: every turn opened and closed durably, in a hash chain that can be checked and repaired."""
