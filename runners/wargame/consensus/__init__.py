"""How five votes become one decision, and what that decision is worth."""
