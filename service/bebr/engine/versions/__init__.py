"""Code versions of a collection: fits, attaching, evaluating, promoting, backfills."""
