# Written by scripts/twins.py from src/reefknot/workflows/_async/__init__.py: change that file, then `make twins`.
"""The asynchronous source of workflows; scripts/twins.py makes the synchronous twin of it."""
