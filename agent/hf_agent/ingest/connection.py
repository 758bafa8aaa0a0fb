"""One connection, whatever its protocol: receiving, back-pressure, and an orderly end.

Received bytes stay in the buffer until the sink takes them. While they cannot be taken, nothing
is read: the client's writes block, and that is all the back-pressure there is. One read is handled
at a time, so that connections take turns.

A connection ends in two steps. From `end` on it takes nothing more; it closes when the subclass
has nothing outstanding, so what was taken is still answered. A peer that has gone altogether does
not stop what it sent from being taken.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Set
from enum import Enum
from typing import ClassVar, Final, cast

import structlog

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.credentials import peer_credentials
from hf_agent.ingest.durable_acks import Acknowledged, DurableAcks
from hf_agent.ingest.endpoint import Endpoint
from hf_agent.ingest.peer import Peer
from hf_agent.ingest.receive_buffer import ReceiveBuffer
from hf_agent.ingest.rejections import INCOMPLETE, REASONS
from hf_agent.ingest.sink import Receipt
from hf_agent.ingest.throttle import CONNECTION_RATE, STREAM_RATE, Throttle
from hf_agent.ingest.token_bucket import TokenBucket

__all__ = ["Connection", "Wait"]

_log = structlog.get_logger(__name__)

_WRITE_HIGH_WATER: Final = 64 << 10

_WORTH_A_READ: Final = 16 << 10
"""Bytes: with less than this to spend, a connection is not read from."""

_LINGER: Final = 2.0
"""Seconds that a client has for reading why its connection ends."""

_BRIEF: Final = frozenset(
    {
        ErrorCode.IDLE_TIMEOUT,
        ErrorCode.NOT_ALLOWED,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.TOO_MANY_CONNECTIONS,
    }
)
"""Reasons that a client may miss: it would do the same if it knew, or has no right to ask. They
must not take time."""

_DISCARDED: Final = memoryview(bytearray(64 << 10))
"""Where connections receive to that take nothing more."""

_EXPECTED: Final = frozenset(
    {
        ErrorCode.FENCED,
        ErrorCode.IDLE_TIMEOUT,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.SUPERSEDED,
    }
)

_REPEATED: Final = frozenset(
    {
        ErrorCode.IDLE_TIMEOUT,
        ErrorCode.NOT_ALLOWED,
        ErrorCode.STREAM_NOT_ALLOWED,
        ErrorCode.TOO_MANY_CONNECTIONS,
    }
)
"""What a client may do over and over: logged when it begins, and then once in a while."""


class Wait(Enum):
    """Why a connection does not go on at the moment. The values are labels of a metric."""

    ROOM = "room"
    """The sink takes nothing."""
    MEMORY = "memory"
    """The receive budget is used up."""
    OUTPUT = "output"
    """The client does not read its answers."""
    REQUESTS = "requests"
    """As many requests of it are under way as may be."""
    EPOCH = "epoch"
    """The producer's new epoch is not durable yet."""
    RATE = "rate"
    """It, or a stream it appended to, has used up what it may send a second."""
    TURN = "turn"
    """A large message is being worked on, and others have their turn in between."""


class Connection(asyncio.BufferedProtocol, ABC):
    """The part that protocols share. Lives on the event loop's thread."""

    protocol: ClassVar[str]
    may_linger: ClassVar[bool] = False
    """Whether a client is given time to read the last word."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._sink = endpoint.sink
        self._transport: asyncio.Transport | None = None
        self._share = endpoint.budget.share(on_room=self._on_memory, on_evicted=self._on_evicted)
        self._buffer = ReceiveBuffer(self._share)
        self._acks = DurableAcks(endpoint.clock)
        self._waits: set[Wait] = set()
        self._reading = True
        self._offered = 0
        self._eof = False
        self._draining = False
        self._ending = False
        self._lingers = False
        self._lingering: asyncio.TimerHandle | None = None
        self._last_word = b""
        self._output_paused = False
        self._peer: Peer | None = None
        self._bucket = endpoint.rates.connection_bucket()
        self._limits_streams = endpoint.rates.limits_streams
        self._throttle = Throttle(endpoint, self.protocol, self._on_rate)
        self._heard = True
        self._quiet_since = 0.0
        metrics = endpoint.metrics
        self._traffic = metrics.traffic[self.protocol]
        self._open_connections = metrics.open_connections.labels(self.protocol)
        self._append_duration = metrics.append_duration

    # -- what a protocol adds --------------------------------------------------------------

    @abstractmethod
    def _take(self) -> None:
        """Take what is whole in the buffer, until a wait begins or `end` was called.

        May raise `ProtocolError`.
        """

    @abstractmethod
    def _take_rest(self) -> None:
        """The input has ended: deal with what is left in the buffer. May begin a wait."""

    @abstractmethod
    def _acknowledge(self, acknowledged: Acknowledged) -> None:
        """Tell the client."""

    @abstractmethod
    def _error(self, code: ErrorCode, message: str, id: int | None) -> bytes:
        """The last word to a client whose connection ends for a reason."""

    def _outstanding(self) -> bool:
        """Whether something must still be waited for before the connection can be closed."""
        return bool(self._acks)

    def _all_done(self) -> None:
        """The client ended its side, and all that it sent is durable: the connection closes now."""

    def _closed(self) -> None:
        """The transport is gone."""

    # -- asyncio ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_WATER)
        self._peer = self._endpoint.other_end(self._transport)
        endpoint = self._endpoint
        self._open_connections.inc()
        refusal = endpoint.join(self, peer_credentials(transport.get_extra_info("socket")))
        if refusal is not None:
            self.fail(refusal.code, refusal.message)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._ending:
            return _DISCARDED
        room = self._buffer.room()
        if self._bucket is not None:
            room = room[: max(self._bucket.level(self._endpoint.clock.monotonic()), 1)]
        self._offered = len(room)
        return room

    def buffer_updated(self, nbytes: int) -> None:
        if self._ending:
            return
        self._heard = True
        self._buffer.received(nbytes)
        self._advance()
        if self._bucket is not None:
            self._spend(self._bucket, nbytes)
        if nbytes == self._offered and self._reading:
            self._let_others_read()

    def eof_received(self) -> bool:
        self._eof = True
        if self._lingering is not None:
            return False
        self._advance()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._eof = True
        if self._lingering is not None:
            self._lingering.cancel()
        self._open_connections.dec()
        self._endpoint.leave(self)
        self._waits -= {Wait.OUTPUT, Wait.REQUESTS, Wait.MEMORY, Wait.RATE}
        self._throttle.stop()
        self._closed()
        # What came before is kept, also when the peer left in a hurry.
        self._advance()

    def pause_writing(self) -> None:
        self._output_paused = True

    def resume_writing(self) -> None:
        self._output_paused = False
        self._go_on(Wait.OUTPUT)

    # -- taking ----------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take what can be taken now, then see to what comes next."""
        try:
            if not self._ending:
                self._take()
        except ProtocolError as error:
            self.fail(error.code, error.message, error.id)
        if not self._ending:
            self._go_on_reading()

    def _go_on_reading(self) -> None:
        if self._waits:
            self._pause_reading()
        elif self._eof:
            self._take_rest()
            if not (self._waits or self._ending):
                self.end()
        elif self._draining:
            self._count_incomplete()
            self.fail(ErrorCode.SHUTTING_DOWN, "agent is shutting down")
        elif self._make_room():
            self._resume_reading()
        else:
            self._waits.add(Wait.MEMORY)
            self._pause_reading()
            self._share.wait(self._needed())

    def _needed(self) -> int:
        """Bytes of memory to hold in all for the message under way to go on."""
        return self._buffer.needed

    def _make_room(self) -> bool:
        if not self._acks:
            # Nothing is under way, so the next read may be long in coming.
            self._buffer.release()
        return self._buffer.prepare()

    def _wait_for_room(self) -> None:
        if Wait.ROOM not in self._waits:
            self._waits.add(Wait.ROOM)
            self._share.excuse(True)
            self._sink.notify_room(self._on_room)

    def _on_room(self) -> None:
        self._share.excuse(False)
        self._go_on(Wait.ROOM)

    def _on_memory(self) -> None:
        self._go_on(Wait.MEMORY)

    def _go_on(self, wait: Wait) -> None:
        if wait in self._waits:
            self._waits.discard(wait)
            self._advance()

    def _let_others_read(self) -> None:
        """Read again on the loop's next turn.

        There is more where a full buffer came from, and the loop would go on reading it, up to 32
        times, before another connection has its turn.
        """
        self._pause_reading()
        asyncio.get_running_loop().call_soon(self._read_again)

    def _read_again(self) -> None:
        if not (self._waits or self._ending):
            self._resume_reading()

    def _spend(self, bucket: TokenBucket, nbytes: int) -> None:
        """The connection has received `nbytes` of what it may."""
        now = self._endpoint.clock.monotonic()
        bucket.spend(nbytes, now)
        seconds = bucket.wait(_WORTH_A_READ, now)
        if seconds > 0:
            self._slow_down(seconds, CONNECTION_RATE)

    def _slow_down(self, seconds: float, reason: str) -> None:
        if self._ending or self._draining or self._transport is None:
            return  # nobody is there to be slowed down, and what was read is taken
        self._waits.add(Wait.RATE)
        self._share.pace(True)
        self._pause_reading()
        self._throttle.begin(seconds, reason)

    def _on_rate(self) -> None:
        self._share.pace(False)
        self._go_on(Wait.RATE)

    def _on_evicted(self) -> None:
        self.fail(
            ErrorCode.NO_BUFFER_SPACE,
            "no memory for a message that does not arrive: "
            f"agent.receive_buffer_bytes={self._endpoint.budget.limit} is used up",
        )

    def _taken(self, receipt: Receipt, id: int, stream: str, records: int, nbytes: int) -> None:
        """The sink took `records` of `nbytes` together: acknowledge them when they are durable."""
        self._traffic.received_records += records
        self._traffic.received_bytes += nbytes
        if self._acks.taken(receipt.batch, id, stream, receipt.position, records):
            self._watch_batch(receipt.batch)
        if self._limits_streams:
            seconds = self._endpoint.rates.spend(stream, nbytes)
            if seconds > 0:
                self._slow_down(seconds, STREAM_RATE)

    def _watch_batch(self, batch: int) -> None:
        self._sink.notify_durable(batch, lambda: self._on_durable(batch))

    def _on_durable(self, batch: int) -> None:
        acknowledged = self._acks.durable(batch)
        if acknowledged is None:
            return
        if self._transport is not None:
            self._acknowledge(acknowledged)
        self._traffic.acked_records += acknowledged.records
        for seconds in acknowledged.durations:
            self._append_duration.observe(seconds)
        if self._ending:
            self._close_if_done()
        elif not self._acks:
            self._buffer.release()

    def _count_rejected(self, code: ErrorCode, records: int = 1) -> None:
        reason = REASONS.get(code)
        if reason is not None:
            self._endpoint.metrics.rejected_records.labels(self.protocol, reason).inc(records)

    def _count_incomplete(self) -> None:
        if len(self._buffer):
            self._endpoint.metrics.rejected_records.labels(self.protocol, INCOMPLETE).inc()

    # -- reading and writing ---------------------------------------------------------------

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None and not self._eof:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and self._transport is not None and not self._eof:
            self._reading = True
            self._transport.resume_reading()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and self._peer is not None:
            self._peer.write(data)

    # -- the end ---------------------------------------------------------------------------

    def fail(self, code: ErrorCode, message: str, id: int | None = None) -> None:
        """Take nothing more, answer what was taken, say why, close."""
        if self._ending:
            return
        self._count_rejected(code)
        self._log_end(code, message)
        self._last_word = self._error(code, message, id)
        self._lingers = self.may_linger and code not in _BRIEF
        if code is ErrorCode.WAL_FAILED:
            # What is outstanding never becomes durable.
            self._acks = DurableAcks(self._endpoint.clock)
        self.end()

    def _log_end(self, code: ErrorCode, message: str) -> None:
        repeated: dict[str, int] = {}
        if code in _REPEATED:
            times = self._endpoint.log_limit.due(code)
            if not times:
                return
            repeated = {"times": times}
        log = _log.info if code in _EXPECTED else _log.warning
        log(
            "connection ends",
            protocol=self.protocol,
            socket=str(self._endpoint.config.path),
            code=str(code),
            reason=message,
            **repeated,
        )

    def end(self) -> None:
        """Take nothing more; close when nothing is outstanding."""
        self._ending = True
        self._waits.clear()
        self._throttle.stop()
        self._share.excuse(False)
        self._pause_reading()
        self._buffer.discard()
        self._share.close()
        self._close_if_done()

    def drain(self) -> None:
        """The agent stops: take what was read, answer it, close."""
        self._draining = True
        self._waits -= {Wait.MEMORY, Wait.RATE}
        self._throttle.stop()
        self._pause_reading()
        self._advance()

    def abort(self) -> None:
        """Close now, whatever is outstanding."""
        self._ending = True
        self._throttle.stop()
        self._buffer.discard()
        self._share.close()
        if self._transport is not None:
            self._transport.abort()

    def end_if_idle(self, now: float, timeout: float) -> None:
        """End if the client has nothing outstanding and was silent for `timeout` seconds.

        To be called again and again: silence counts from the first call that finds nothing new. A
        client that is not read from is not silent, and half a message is no answer to silence.
        """
        if self._heard or self._waits or self._ending or self._eof or self._outstanding():
            self._heard = False
            self._quiet_since = now
        elif now - self._quiet_since >= timeout:
            self._endpoint.metrics.timed_out_connections.labels(self.protocol).inc()
            self._count_incomplete()
            self.fail(
                ErrorCode.IDLE_TIMEOUT, f"nothing was sent for a long time seconds={timeout:g}"
            )

    def close_if_peer_is_gone(self) -> None:
        """Close if the client can hear no answer any more."""
        if self._eof and self._ending and self._peer_is_gone():
            self.abort()

    @property
    def waits(self) -> Set[Wait]:
        """What it waits for before it goes on."""
        return self._waits

    @property
    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""
        return self._transport is None or self._transport.is_closing()

    def _close_if_done(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._lingering is not None:
            return
        if self._outstanding() and not (self._eof and self._peer_is_gone()):
            return
        if self._last_word:
            transport.write(self._last_word)
            if self._lingers and not self._eof:
                self._linger(transport)
                return
        elif self._eof and not self._outstanding():
            self._all_done()
        transport.close()

    def _linger(self, transport: asyncio.Transport) -> None:
        """Have the client read the last word.

        Were the connection closed at once, while it sends, its next write would fail, and it
        might never look at what it was told.
        """
        transport.write_eof()
        self._resume_reading()
        loop = asyncio.get_running_loop()
        self._lingering = loop.call_later(_LINGER, transport.abort)

    def _peer_is_gone(self) -> bool:
        """Whether the client has closed, rather than only ended its writing side."""
        return self._transport is None or self._peer is None or self._peer.is_gone()
