"""Define the daemon's answers: the JSON shape of each, for the code that makes, reads or describes it."""
