"""The trainer of adapters: how the queries of one model search the codes of another."""
