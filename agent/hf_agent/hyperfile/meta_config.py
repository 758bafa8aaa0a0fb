"""Meta config: block sizes and pointer format of a container, packed into 32 bits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "MAX_BLOCK_SHIFT",
    "MIN_BLOCK_SHIFT",
    "ROOT_BYTES",
    "MetaConfig",
    "PointerFormat",
    "align",
]

ROOT_BYTES = 56
MIN_BLOCK_SHIFT = 12
MAX_BLOCK_SHIFT = 30
_ROOT_EIGHTHS = ROOT_BYTES // 8
_ALIGNMENT = 4096


def align(size: int) -> int:
    """`size` rounded up to a multiple of 4096."""
    return (size + _ALIGNMENT - 1) & -_ALIGNMENT


class PointerFormat(IntEnum):
    """How block pointers name a place; fixed for the life of a container."""

    FLAT = 1
    MICRO_GROUP = 2
    PARTED = 3
    STREAM = 4

    @property
    def parted(self) -> bool:
        """Whether checkpoints are named `N.P` (else just `N`)."""
        return self >= PointerFormat.PARTED


@dataclass(frozen=True, slots=True)
class MetaConfig:
    """Block sizes as powers of two, and the pointer format."""

    meta_shift: int
    data_shift: int
    pointer_format: PointerFormat

    @property
    def meta_block_size(self) -> int:
        """Bytes of a map node."""
        return 1 << self.meta_shift

    @property
    def data_block_size(self) -> int:
        """Bytes of a data block."""
        return 1 << self.data_shift

    def pack(self) -> int:
        """The 32-bit value that stands in an inode."""
        return (
            _ROOT_EIGHTHS << 24 | self.meta_shift << 16 | self.data_shift << 8 | self.pointer_format
        )

    @classmethod
    def unpack(cls, value: int) -> MetaConfig | None:
        """The parts of `value`; None when it is not a valid meta config."""
        meta_shift, data_shift, pointer_format = value >> 16 & 255, value >> 8 & 255, value & 255
        if not _has_shape(value) or not 1 <= pointer_format <= max(PointerFormat):
            return None
        return cls(meta_shift, data_shift, PointerFormat(pointer_format))

    @staticmethod
    def unknown_format(value: int) -> int | None:
        """The pointer format in a value that would be valid but for that, else None."""
        pointer_format = value & 255
        later = _has_shape(value) and pointer_format > max(PointerFormat)
        return pointer_format if later else None


def _has_shape(value: int) -> bool:
    """Whether all but the pointer format is as in a meta config."""
    return (
        value >> 24 == _ROOT_EIGHTHS
        and MIN_BLOCK_SHIFT <= value >> 16 & 255 <= MAX_BLOCK_SHIFT
        and MIN_BLOCK_SHIFT <= value >> 8 & 255 <= MAX_BLOCK_SHIFT
    )
