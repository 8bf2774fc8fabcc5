"""Copying files and live databases, in children where a database is concerned."""
