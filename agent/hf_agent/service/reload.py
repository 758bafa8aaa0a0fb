"""SIGHUP: what of a new configuration takes effect now, and what needs a restart."""

from __future__ import annotations

from typing import Any

import msgspec

from hf_agent.config import Config

__all__ = ["changed_keys", "merge", "needs_restart"]

_APPLIED = {
    "flush": (
        *("interval", "bytes", "concurrency"),
        *("shutdown_timeout", "retry_min", "retry_max"),
    ),
    "log": ("level",),
}
"""Keys by table that a running agent takes over."""


def merge(old: Config, new: Config) -> Config:
    """What a running agent goes on with: `old`, with what it can take of `new`."""
    tables = {}
    for table, keys in _APPLIED.items():
        taken = {key: getattr(getattr(new, table), key) for key in keys}
        tables[table] = msgspec.structs.replace(getattr(old, table), **taken)
    return msgspec.structs.replace(old, **tables)


def changed_keys(old: Config, new: Config) -> list[str]:
    """Dotted keys whose values differ; a list (`listen`) counts as one value."""
    before, after = _flat(msgspec.to_builtins(old)), _flat(msgspec.to_builtins(new))
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def needs_restart(keys: list[str]) -> list[str]:
    """Those of `keys` that only a restart takes over."""
    applied = {f"{table}.{key}" for table, names in _APPLIED.items() for key in names}
    return [key for key in keys if key not in applied]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(_flat(inner, f"{prefix}.{key}" if prefix else str(key)))
    return flat
