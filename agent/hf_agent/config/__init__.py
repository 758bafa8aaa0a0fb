"""The configuration: a TOML file, read once, checked whole, and frozen."""

from __future__ import annotations

from hf_agent.config.errors import ConfigError
from hf_agent.config.load import load, parse
from hf_agent.config.model import (
    FIRST_LINE,
    S3,
    Agent,
    Config,
    Flush,
    Forward,
    ForwardUser,
    Http,
    Lines,
    Listen,
    Log,
    Store,
    Syslog,
    Wal,
)

__all__ = [
    "FIRST_LINE",
    "S3",
    "Agent",
    "Config",
    "ConfigError",
    "Flush",
    "Forward",
    "ForwardUser",
    "Http",
    "Lines",
    "Listen",
    "Log",
    "Store",
    "Syslog",
    "Wal",
    "load",
    "parse",
]
