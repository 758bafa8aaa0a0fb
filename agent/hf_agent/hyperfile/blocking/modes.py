"""Modes as Python's `open` writes them, always binary."""

from __future__ import annotations

from typing import cast

from hf_agent.hyperfile.file.options import Mode

__all__ = ["file_mode", "plain_mode"]

_MODES = ("r", "r+", "w", "w+", "a", "a+", "x", "x+")


def plain_mode(mode: str) -> str:
    """`mode` without its "b": one of r, w, a and x, with "+" behind it where both reading and
    writing are meant. Raises `ValueError` for any other."""
    plain = mode.replace("b", "", 1)
    if plain not in _MODES:
        raise ValueError(f"no such mode mode={mode!r} known='{' '.join(_MODES)}'")
    return plain


def file_mode(plain: str) -> Mode:
    """The mode of the `HyperFile` below, which can always be read."""
    return cast(Mode, plain if plain == "r+" else plain[0])
