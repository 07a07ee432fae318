"""Other clients' spellings over this SDK, for programs that were written for them."""
