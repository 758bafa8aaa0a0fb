"""What a read asks for: all of an object, `[start, end)`, or its last bytes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ByteRange"]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A checked range; `start` and `end` or `suffix`, or none of them for the whole object."""

    start: int | None = None
    end: int | None = None
    suffix: int | None = None

    def __post_init__(self) -> None:
        if self.suffix is not None and (self.start is not None or self.end is not None):
            raise ValueError("a range has either start and end, or a suffix, not both")
        for name in ("start", "end", "suffix"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"a range may not be negative {name}={value}")

    def resolve(self, size: int) -> tuple[int, int]:
        """Offset and length in bytes within an object of `size` bytes; always inside of it."""
        if self.suffix is not None:
            length = min(self.suffix, size)
            return size - length, length
        offset = min(self.start or 0, size)
        end = size if self.end is None else min(self.end, size)
        return offset, max(0, end - offset)

    @property
    def is_whole(self) -> bool:
        """Whether the whole object is asked for, however long it is."""
        return self.suffix is None and not self.start and self.end is None

    @property
    def is_empty(self) -> bool:
        """Whether no byte is asked for, however long the object is."""
        if self.suffix is not None:
            return self.suffix == 0
        return self.end is not None and self.end <= (self.start or 0)

    @property
    def header(self) -> str:
        """The value of the HTTP `Range` header; only for ranges neither whole nor empty."""
        if self.suffix is not None:
            return f"bytes=-{self.suffix}"
        last = "" if self.end is None else str(self.end - 1)
        return f"bytes={self.start or 0}-{last}"
