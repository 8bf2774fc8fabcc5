"""What a run has shown, for people: a summary, a report with plots, a model card."""
