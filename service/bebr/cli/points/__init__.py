"""Commands that write and read points: `ingest`, `search`, `inspect`."""
