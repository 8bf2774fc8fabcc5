"""A well-behaved chat client, which can be told to misbehave."""
