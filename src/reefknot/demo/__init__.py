"""Four money transfers between two banks, with crashes in between: what Reefknot is for, in 15 seconds."""

from reefknot.demo.command import main

__all__ = ["main"]
