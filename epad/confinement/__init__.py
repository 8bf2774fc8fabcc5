"""Say what a subsystem's processes may reach, and what a change of that widens."""
