"""From the queries of one embedding model to the codes of another, and what that finds."""
