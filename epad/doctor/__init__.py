"""Examine this machine: the features epad can use, those it lacks, and the fix for each."""
