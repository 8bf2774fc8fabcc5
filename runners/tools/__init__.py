"""The tools of agents: programs run as children, one file per category. Nothing here imports epad."""
