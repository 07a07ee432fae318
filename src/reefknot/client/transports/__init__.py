"""How requests travel: one module for each library, imported when a URL needs it."""
