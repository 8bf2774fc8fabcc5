"""SQLite behind one thread, checksums of its pages, files held open, and the event log."""
