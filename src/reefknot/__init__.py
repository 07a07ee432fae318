"""Reefknot, a distributed transaction manager that speaks the protocols of DTM."""

__version__ = "0.1.0"
