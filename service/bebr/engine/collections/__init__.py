"""Collections: what is stored about each, which there are, and what encodes for them."""
