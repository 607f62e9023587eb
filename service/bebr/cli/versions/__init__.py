"""Commands that change the embedding model of a collection: `upgrade`."""
