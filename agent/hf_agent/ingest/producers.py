"""Which connection speaks for which producer: never two at a time, or their order would be lost."""

from __future__ import annotations

import re
from typing import Protocol

__all__ = ["MAX_PRODUCER_NAME_BYTES", "ProducerRegistry", "is_producer_name"]

MAX_PRODUCER_NAME_BYTES = 128

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def is_producer_name(name: str) -> bool:
    """Whether `name` may name a producer: 1 to 128 of `[A-Za-z0-9._:-]`."""
    return _NAME.fullmatch(name) is not None


class _Speaker(Protocol):
    def supersede(self, epoch: int) -> None: ...


class ProducerRegistry:
    """One for the whole agent, whichever sockets the producers use."""

    def __init__(self) -> None:
        self._speakers: dict[str, _Speaker] = {}

    def claim(self, producer: str, speaker: _Speaker, epoch: int) -> None:
        """Let `speaker` speak for `producer` in `epoch`; who did before is superseded first.

        Whether that epoch may speak at all is the caller's to know.
        """
        before = self._speakers.get(producer)
        self._speakers[producer] = speaker
        if before is not None:
            before.supersede(epoch)

    def release(self, producer: str, speaker: _Speaker) -> None:
        """`speaker` is gone; nothing happens if it was superseded."""
        if self._speakers.get(producer) is speaker:
            del self._speakers[producer]

    def __len__(self) -> int:
        return len(self._speakers)
