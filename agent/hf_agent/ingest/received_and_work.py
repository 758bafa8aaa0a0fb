"""Memory that a connection needs beside its receive buffer, out of the same budget."""

from __future__ import annotations

from hf_agent.ingest.receive_buffer import Holding

__all__ = ["ReceivedAndWork"]


class ReceivedAndWork:
    """What a connection holds: the receive buffer's memory, and `work` bytes to work in."""

    __slots__ = ("_share", "work")

    def __init__(self, share: Holding) -> None:
        self._share = share
        self.work = 0

    def resize(self, nbytes: int) -> bool:
        """See `Holding.resize`."""
        return self._share.resize(nbytes + self.work)

    def touch(self) -> None:
        """See `Holding.touch`."""
        self._share.touch()
