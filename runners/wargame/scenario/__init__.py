"""What is asked: scenarios, their benign twins, and how attacks are kept from giving themselves away."""
