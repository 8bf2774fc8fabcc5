"""The stages of a run, in their order; each is resumed at the unit it was at."""
