"""From the WAL to the store: when a stream is flushed, and how one checkpoint is made."""
