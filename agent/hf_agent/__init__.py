"""hf-agent: Unix sockets to a local write-ahead log to Hyperfile containers on object stores."""

__version__ = "0.1.0"
