"""The asynchronous source of xa; scripts/twins.py makes the synchronous twin of it."""
