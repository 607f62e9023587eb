"""Writing points: parse, encode, commit."""
