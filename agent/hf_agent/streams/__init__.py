"""Streams between the WAL and the store: names, positions, binds, and who waits for what."""
