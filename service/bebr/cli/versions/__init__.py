"""Commands that change the model of a collection: `upgrade`."""
