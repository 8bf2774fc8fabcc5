"""`epad check --try`: each subsystem is started once in a house of its own, which is gone afterwards."""
