"""The daemon's side of `probes/`: making them, feeding them and running them."""
