"""Pure numpy: codes, reference scorers, top-k, filters. No I/O; the oracle of everything fast."""
