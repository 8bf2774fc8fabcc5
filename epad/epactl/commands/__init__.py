"""The commands of `epactl`, a file for each subject."""
