"""The shards of a collection behind one client: searched, written, and kept equal to the store."""
