"""SQLite behind one thread, checksums of its pages, files held open, names in a bundle, the event log."""
