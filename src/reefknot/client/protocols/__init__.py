"""How the client's verbs look in each protocol of the server: pure translation, no I/O."""
