"""The last resort: what is saved when nothing else works, and a clean start from it."""
