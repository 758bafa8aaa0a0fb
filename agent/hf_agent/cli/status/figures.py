"""Numbers as people read them at a glance, and texts as a terminal may have them."""

from __future__ import annotations

from typing import Final

__all__ = ["age", "amount", "bar", "clean", "size"]

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEPS: Final = ((86_400.0, "d", 3600.0, "h"), (3600.0, "h", 60.0, "m"), (60.0, "m", 1.0, "s"))


def size(count: float) -> str:
    """Bytes in the unit that leaves one to four digits."""
    unit = 0
    while round(count) >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    digits = 1 if unit and count < 99.95 else 0
    return f"{count:.{digits}f} {_UNITS[unit]}"


def amount(count: float) -> str:
    """A count, or a rate of one: thousands are set off, and small fractions are kept."""
    return f"{count:,.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"


def age(seconds: float) -> str:
    """A time span by its two largest units."""
    seconds = max(0.0, seconds)
    for large, name, small, small_name in _STEPS:
        if seconds >= large:
            rest = int(seconds % large // small)
            return f"{int(seconds // large)}{name} {rest}{small_name}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s"


def bar(share: float, width: int) -> str:
    """A filled and an empty part, `width` characters in all."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)


def clean(text: object) -> str:
    """On one line, and without anything that a terminal would obey."""
    return "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(text)
    )
