"""What a file has to be, told with plain byte strings: no blocks, no maps, no store."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FileModel:
    """An open file: the content, and which of it is its own."""

    content: bytearray
    base: int
    """Number of the checkpoint that it was opened on."""
    own: bytearray = field(default_factory=bytearray)
    """One byte for each of `content`: whether this file wrote it since."""
    cut: int | None = None
    written_end: int = 0
    dirty: bool = False
    attributes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.own = bytearray(len(self.content))

    def write(self, offset: int, data: bytes) -> None:
        if data:
            end = offset + len(data)
            self._reach(end)
            self.content[offset:end] = data
            self.own[offset:end] = b"\1" * len(data)
            self.dirty = True

    def truncate(self, size: int) -> None:
        if size == len(self.content):
            return
        if size < len(self.content):
            del self.content[size:], self.own[size:]
            self.cut = size if self.cut is None else min(self.cut, size)
            self.written_end = min(self.written_end, size)
        else:
            self._reach(size)
        self.dirty = True

    def _reach(self, end: int) -> None:
        missing = max(end - len(self.content), 0)
        self.content += bytes(missing)
        self.own += bytes(missing)
        self.written_end = max(self.written_end, end)

    def on_top_of(self, theirs: bytes) -> bytes:
        """The content when these changes come after another writer's."""
        size = len(self.content)
        if self.cut is None:
            size = max(len(theirs), self.written_end)
        merged = bytearray(size)
        kept = theirs[: min(size, len(theirs) if self.cut is None else self.cut)]
        merged[: len(kept)] = kept
        start = self.own.find(1)
        while start >= 0:
            end = self.own.find(0, start)
            end = len(self.own) if end < 0 else end
            merged[start:end] = self.content[start:end]
            start = self.own.find(1, end)
        return bytes(merged)
