"""Give each subsystem an identity that other programs can verify: SPIFFE ids, by what the kernel says of a process."""
