"""Save the irreplaceable as the last resort, and start clean from it."""
