"""Report a run to people: a summary, a report with plots, a model card."""
