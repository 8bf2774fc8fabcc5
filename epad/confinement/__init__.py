"""Define the policy of a subsystem's processes, put it in force, and name the requests that a change newly allows."""
