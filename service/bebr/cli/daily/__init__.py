"""Commands for daily life with a service: `collection`, `points`, `alias`, `jobs`."""
