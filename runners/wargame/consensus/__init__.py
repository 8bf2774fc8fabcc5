"""Turn five votes into one decision, and measure its worth."""
