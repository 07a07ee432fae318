"""The client's asynchronous face, and the source of its synchronous twin."""
