"""What the daemon answers: the shape of each answer as JSON, for whoever makes it, reads it or describes it."""
