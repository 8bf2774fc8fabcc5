"""`epad check --try`: each subsystem is started once in a daemon of its own, which is gone afterwards."""
