"""How all of this looks on the network: pure translation, shared by the server and the SDK."""
