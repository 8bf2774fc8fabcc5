"""Files that today's servers load, each checked after it was written."""
