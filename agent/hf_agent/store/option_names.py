"""Options by name, as programs pass them on: one that is none is refused, with the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["check_option_names"]


def check_option_names(given: Iterable[str], known: Iterable[str], *, within: str = "") -> None:
    """Raise `ValueError` for the first of `given` that is not among `known`.

    It names the known one that is most like it, if one is, and all others. `within` is what the
    options belong to, as in `client_kwargs`.
    """
    names = sorted(known)
    unknown = sorted(set(given).difference(names))
    if not unknown:
        return
    prefix = f"{within}." if within else ""
    near = difflib.get_close_matches(unknown[0].lower(), names, n=1, cutoff=0.6)
    advice = f"no such option; the nearest is {prefix}{near[0]}" if near else "no such option"
    raise ValueError(f"{advice} option={prefix}{unknown[0]} known='{' '.join(names)}'")
