"""How much a Unix datagram socket queues, as asked for and as the kernel has it.

Linux bounds the queue of a Unix datagram socket by messages (`net.unix.max_dgram_qlen`, as it was
when the socket was made), and by the senders' own buffers; SO_RCVBUF is not looked at. Nothing is
dropped: a sender to a full queue waits, or gets EAGAIN. So there is nothing to count either.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

import structlog

__all__ = ["queue_length", "size_queue"]

_log = structlog.get_logger(__name__)

_QUEUE_LENGTH: Final = Path("/proc/sys/net/unix/max_dgram_qlen")


def queue_length() -> int | None:
    """Datagrams that a socket made now queues before its senders wait; None: not known."""
    try:
        return int(_QUEUE_LENGTH.read_text()) + 1
    except (OSError, ValueError):
        return None


def size_queue(bound: socket.socket, path: str, *, receive_buffer: int, queue: int) -> None:
    """Ask the kernel for what the configuration says; what it does not give is logged.

    Either may be 0, for what the kernel does by itself.
    """
    if receive_buffer:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        # The kernel doubles what is asked for, and tells the double.
        given = bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if given < receive_buffer:
            _log.warning(
                "socket buffer is smaller than asked for: raise sysctl net.core.rmem_max",
                path=path,
                asked=receive_buffer,
                given=given,
            )
    length = queue_length()
    if queue and length is not None and length < queue:
        _log.warning(
            "socket queues fewer datagrams than asked for, so senders wait sooner: raise sysctl "
            "net.unix.max_dgram_qlen, then restart the agent",
            path=path,
            asked=queue,
            given=length,
        )
