"""Values of each kind as people write them. Functions raise `ValueError`."""

from __future__ import annotations

import math
import os
import re

__all__ = [
    "parse_account",
    "parse_count",
    "parse_directory",
    "parse_duration",
    "parse_flag",
    "parse_mode",
    "parse_size",
]

_SIZE_UNITS = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}
_DURATION_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_ACCOUNT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}\$?")
_MAX_ACCOUNT = (1 << 32) - 2
"""The last number of a user or group; the one above stands for none (Linux: chown(2))."""
_OCTAL = re.compile(r"(?:0o?)?([0-7]{1,4})")


def parse_size(value: object) -> int:
    """Bytes, from a whole number of them or a string such as "64MiB" or "8KB"."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("a size cannot be negative")
        return value
    if isinstance(value, str) and (match := _NUMBER.fullmatch(value)):
        unit = _SIZE_UNITS.get(match[2].lower())
        if unit is not None:
            size = float(match[1]) * unit if "." in match[1] else int(match[1]) * unit
            if size == int(size):
                return int(size)
    raise ValueError('not a size: give bytes, or a string such as "64MiB" or "8KB"')


def parse_duration(value: object) -> float:
    """Seconds, from a number of them or a string such as "500ms", "5s", "10m" or "1h"."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    elif isinstance(value, str) and (match := _NUMBER.fullmatch(value)):
        unit = _DURATION_UNITS.get(match[2].lower())
        if unit is not None:
            return float(match[1]) * unit
    raise ValueError(
        'not a duration: give seconds, or a string such as "500ms", "5s", "10m" or "1h"'
    )


def parse_mode(value: object) -> int:
    """Permission bits, from an octal string such as "0660"."""
    if isinstance(value, str) and (match := _OCTAL.fullmatch(value)):
        mode = int(match[1], 8)
        if mode <= 0o777:
            return mode
    # A bare number is refused although TOML has octal ones: 660 would silently mean 0o1224.
    raise ValueError('not a mode: give an octal string up to "0777", such as "0660"')


def parse_account(value: object) -> str:
    """A user or group, from its number or its name; whether there is one is not looked up."""
    if isinstance(value, str) and _ACCOUNT_NAME.fullmatch(value):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value <= _MAX_ACCOUNT:
            return str(value)
        raise ValueError(f"not a number of a user or group: they are from 0 to {_MAX_ACCOUNT}")
    raise ValueError('not a user or group: give a number, or a name in quotes, such as "nginx"')


def parse_count(value: object) -> int:
    """A whole number; also as a string, which is what an environment variable gives."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    raise ValueError("not a whole number")


def parse_flag(value: object) -> bool:
    """True or false; also as a string, which is what an environment variable gives."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("not a flag: write true or false, without quotes")


def parse_directory(value: object) -> str:
    """An absolute path, from a path; a relative one begins at the current directory."""
    if not isinstance(value, str):
        raise ValueError("not a string: put it in quotes")
    if not value or "\0" in value:
        raise ValueError("not a path: it is empty, or has a NUL character in it")
    # Absolute, so that logs and errors say where it is; symbolic links stay as they are.
    return os.path.abspath(value)  # noqa: PTH100 - pure text
