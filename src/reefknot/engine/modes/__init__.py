"""One file for each mode, found by its name; ``mode`` in it is the instance."""
