"""Subsystems as processes: spawned, adopted, listened to, held, restarted and stopped with their whole tree."""
