"""The store of several processes: Redis, Valkey, or a cluster of either."""
