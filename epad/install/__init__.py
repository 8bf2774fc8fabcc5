"""epad as a service of this machine: the files it takes, how they get there, and how they go."""
