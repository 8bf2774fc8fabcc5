"""Make scenarios and their benign twins, and keep attacks from giving themselves away."""
