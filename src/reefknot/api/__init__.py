"""How do clients reach us? Each API translates, calls one verb, and translates back."""
