"""What the values of `[listen.lines]` must be, each by itself and together."""

from __future__ import annotations

from hf_agent.config.forward_rules import KEY_RULE, Require, is_key
from hf_agent.config.location import KeyPath
from hf_agent.config.model import Lines, Listen
from hf_agent.ingest.lines.start_pattern import StartPattern

__all__ = ["check_lines"]

_KEYS = ("time_key", "pid_key", "uid_key", "stream_key", "message_key")
_RANGES: dict[str, tuple[float, float]] = {
    "max_group_lines": (1, 100_000),
    "max_group_bytes": (1, 256 << 20),
    "max_group_wait": (0.001, 3600),
}


def check_lines(listen: Listen, at: KeyPath, require: Require) -> None:
    """Everything that is wrong with the table at `at`."""
    lines = listen.lines
    require(
        listen.protocol == "lines" or lines == Lines(),
        f'protocol "{listen.protocol}" does not have this table: remove it',
        at,
        (*at[:-1], "protocol"),
    )
    if listen.protocol != "lines":
        return
    _check_keys(lines, at, require)
    for name, (low, high) in _RANGES.items():
        value = getattr(lines, name)
        require(low <= value <= high, f"must be from {low} to {high}", (*at, name))
    if lines.start_pattern:
        problem = ""
        try:
            StartPattern(lines.start_pattern)
        except ValueError as error:
            problem = str(error)
        require(not problem, problem, (*at, "start_pattern"))


def _check_keys(lines: Lines, at: KeyPath, require: Require) -> None:
    defaults = Lines()
    taken: dict[str, str] = {}
    for name in _KEYS:
        key = getattr(lines, name)
        require(not key or is_key(key), KEY_RULE, (*at, name))
        require(
            lines.format == "json" or key == getattr(defaults, name),
            'format "raw" writes no keys: remove this one, or choose "json"',
            (*at, name),
            (*at, "format"),
        )
        other = taken.get(key) if key else None
        require(
            other is None,
            f"the same as {other}: each needs a key of its own",
            (*at, name),
            (*at, other or name),
        )
        taken.setdefault(key, name)
    require(
        bool(lines.message_key),
        "empty: what a line says needs a key",
        (*at, "message_key"),
    )
    require(
        lines.cri or lines.stream_key == defaults.stream_key,
        "only lines of a container runtime have a stream: remove this key, or set cri",
        (*at, "stream_key"),
        (*at, "cri"),
    )
