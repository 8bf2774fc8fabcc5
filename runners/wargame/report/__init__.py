"""Report a run as values, as text and as one page."""
