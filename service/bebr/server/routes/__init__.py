"""The routes, by noun. Each says what it takes and gives in an `Operation`, reads its body, and asks the engine."""
