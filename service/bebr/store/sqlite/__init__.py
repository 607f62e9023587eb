"""The embedded store: SQLite files in a folder."""
