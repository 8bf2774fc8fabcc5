"""What a run has shown, as values, as text and as one page."""
