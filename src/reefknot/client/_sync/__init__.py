# Written by scripts/twins.py from src/reefknot/client/_async/__init__.py: change that file, then `make twins`.
"""The client's asynchronous face, and the source of its synchronous twin."""
