"""The one way to a model: identity, budget, the turn ledger, forwarding."""
