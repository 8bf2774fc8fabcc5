"""The process `epad`: its command line, its parts put together, its start and its end."""
