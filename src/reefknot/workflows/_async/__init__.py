"""The asynchronous source of workflows; scripts/twins.py makes the synchronous twin of it."""
