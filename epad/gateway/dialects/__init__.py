"""The protocols that clients speak, each understood only as far as metering needs."""
