"""The trainer of adapters, by which queries of one model search the codes of another."""
