"""The Extinction Protocol Agent: a kill switch that heals."""

__version__ = "0.1.0"
