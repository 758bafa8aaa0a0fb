"""A connection of protocol `forward`: messages in, an acknowledgement for each durable chunk.

The protocol has no word for a refusal: a connection on which something makes no sense is closed.
What was not acknowledged on it is the peer's, to send again or to keep.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.connection import Connection, Wait
from hf_agent.ingest.durable_acks import Acknowledged
from hf_agent.ingest.endpoint import Endpoint
from hf_agent.ingest.forward.chunk import (
    SLICE_BYTES,
    Part,
    Step,
    check_options,
    is_small,
    parts,
    small_part,
)
from hf_agent.ingest.forward.dedup import chunk_key
from hf_agent.ingest.forward.entries import wrong_size
from hf_agent.ingest.forward.handshake import Handshake
from hf_agent.ingest.forward.messages import Events, Ping, chunk_text
from hf_agent.ingest.forward.reader import MessageReader
from hf_agent.ingest.forward.settings import ForwardSettings, Route
from hf_agent.ingest.receive_buffer import Holding, ReceiveBuffer
from hf_agent.ingest.sink import WHOLE_CHUNK, ChunkMark, Rejected
from hf_agent.ingest.stream_name import STREAM_NAME_RULE

__all__ = ["ForwardConnection"]

_SALT_BYTES: Final = 16

_ACK: Final = b"\x81\xa3ack"
"""A map of one pair, whose value is the chunk's id as it came."""


class ForwardConnection(Connection):
    """Takes each message as one append, or several if it is large."""

    protocol = "forward"

    def __init__(self, endpoint: Endpoint, settings: ForwardSettings) -> None:
        super().__init__(endpoint)
        self._settings = settings
        self._holding = _ReceivedAndWork(self._share)
        self._buffer = ReceiveBuffer(self._holding)
        self._reader = MessageReader(settings.max_message_bytes, self._buffer)
        self._handshake: Handshake | None = None
        self._refusal = b""
        self._work: _Work | None = None
        self._taken_parts = 0
        self._due: deque[tuple[int, bytes]] = deque()
        """Acknowledgements to be sent once the part of this number is durable."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        secrets = self._settings.secrets
        if secrets is not None and not self._ending:
            rng = self._endpoint.rng
            self._handshake = Handshake(
                secrets,
                self._settings.hostname,
                rng.randbytes(_SALT_BYTES),
                rng.randbytes(_SALT_BYTES),
            )
            self._write(self._handshake.helo())

    # -- taking ----------------------------------------------------------------------------

    def _take(self) -> None:
        while not self._waits and not self._ending:
            if self._work is not None:
                self._go_on_working(self._work)
                continue
            message = self._reader.next()
            if message is None:
                return
            if isinstance(message, Events):
                try:
                    self._on_events(message)
                except ProtocolError as error:
                    raise _explained(error, message) from error
            elif isinstance(message, Ping):
                self._on_ping(message)
                self._reader.consume()
            else:
                self._reader.consume()

    def _take_rest(self) -> None:
        self._count_incomplete()

    def _on_ping(self, ping: Ping) -> None:
        if self._handshake is None:
            raise ProtocolError(ErrorCode.MALFORMED, "PING came, and no HELO was said before")
        greeting = self._handshake.answer(ping)
        if greeting.refusal:
            self._refusal = greeting.pong
            raise ProtocolError(
                ErrorCode.UNAUTHORIZED,
                f"{greeting.refusal} hostname={ping.hostname[:100]!r} "
                f"username={ping.username[:100]!r}",
            )
        self._handshake = None
        self._write(greeting.pong)

    def _on_events(self, events: Events) -> None:
        """Take a message, or begin to, or wait until that is possible."""
        if self._handshake is not None:
            raise ProtocolError(ErrorCode.UNAUTHORIZED, "events came before the handshake")
        check_options(events)
        if not len(events.entries):
            self._on_nothing(events)
            return
        route = self._settings.route(events.tag)
        if route is None:
            raise ProtocolError(
                ErrorCode.BAD_STREAM, f"tag makes no stream's name {STREAM_NAME_RULE}"
            )
        key = chunk_key(events) if bytes(events.options.chunk) else None
        known = 0 if key is None else self._sink.chunk_progress(key)
        if known == WHOLE_CHUNK:
            self._endpoint.metrics.deduplicated_records.inc(events.count or 1)
            self._on_known(events)
            self._reader.consume()
            return
        if not self._sink.accepts():
            self._wait_for_room()
            return
        work = _Work(events, route, key, known)
        if not known and is_small(events):
            part = small_part(events, route.format)
            if len(part.data) <= self._settings.max_part_bytes:
                self._append(work, part)
                self._reader.consume()
                return
        work.steps = parts(
            events,
            route.format,
            max_part_bytes=self._settings.max_part_bytes,
            max_unpacked_bytes=self._settings.max_unpacked_bytes,
            known=known,
        )
        self._work = work

    def _on_nothing(self, events: Events) -> None:
        """A message without entries: some peers send them to see whether somebody is there."""
        if events.options.size:
            raise wrong_size(events.options.size, 0)
        self._on_known(events)
        self._reader.consume()

    def _on_known(self, events: Events) -> None:
        """Nothing to take: acknowledged when everything taken so far is durable."""
        if not bytes(events.options.chunk):
            return
        self._taken_parts += 1
        self._due.append((self._taken_parts, _ack(events)))
        batch = self._sink.barrier()
        if self._acks.known(batch, self._taken_parts):
            self._watch_batch(batch)

    # -- large messages --------------------------------------------------------------------

    def _go_on_working(self, work: _Work) -> None:
        """One step; then others have a turn."""
        part = work.part
        if part is None:
            if not self._may_work():
                return
            try:
                part = next(work.steps)
            except ProtocolError as error:
                raise _explained(error, work.events) from error
            self._share.touch()
            if part is None:
                self._let_others()
                return
            work.part = part
        if not self._sink.accepts():
            self._wait_for_room()
            return
        self._append(work, part)
        work.part = None
        if part.is_last:
            self._stop_working()
            self._reader.consume()
        else:
            self._let_others()

    def _may_work(self) -> bool:
        """Have memory for a part. False: not now."""
        work = 2 * self._settings.max_part_bytes + 2 * SLICE_BYTES
        if self._holding.work or self._draining or self._transport is None:
            return True  # nobody new comes, or nothing more does: it ends soon
        if self._share.resize(self._buffer.capacity + work):
            self._holding.work = work
            return True
        self._waits.add(Wait.MEMORY)
        self._share.wait(self._buffer.capacity + work)
        return False

    def _let_others(self) -> None:
        self._waits.add(Wait.TURN)
        asyncio.get_running_loop().call_soon(self._go_on, Wait.TURN)

    def _stop_working(self) -> None:
        self._work = None
        if self._holding.work:
            self._holding.work = 0
            self._share.resize(self._buffer.capacity)

    # -- appending -------------------------------------------------------------------------

    def _append(self, work: _Work, part: Part) -> None:
        events, route = work.events, work.route
        if not part.data:
            self._on_known(events)  # all of it was compressed nothing
            return
        mark = None
        if work.key is not None:
            work.known += part.number
            mark = ChunkMark(work.key, WHOLE_CHUNK if part.is_last else work.known)
        try:
            receipt = self._sink.append(route.stream, part.data, records=part.number, mark=mark)
        except Rejected as error:
            raise ProtocolError(ErrorCode(error.code), error.message) from error
        self._taken_parts += 1
        if part.is_last and work.key is not None:
            self._due.append((self._taken_parts, _ack(events)))
        self._traffic.received_records += part.number
        self._traffic.received_bytes += len(part.data)
        if route.is_fallback:
            self._endpoint.metrics.forward_fallback_records.inc(part.number)
        self._taken(receipt.batch, self._taken_parts, route.stream, receipt.position, part.number)

    def _acknowledge(self, acknowledged: Acknowledged) -> None:
        due = self._due
        acks = []
        while due and due[0][0] <= acknowledged.id:
            acks.append(due.popleft()[1])
        if not acks:
            return
        self._write(b"".join(acks))
        if self._output_paused and not self._ending:
            # A peer that does not read its acknowledgements gets no more of them.
            self._waits.add(Wait.OUTPUT)

    # -- the end ---------------------------------------------------------------------------

    def drain(self) -> None:
        self._waits.discard(Wait.OUTPUT)
        super().drain()

    def end(self) -> None:
        self._work = None
        self._holding.work = 0
        super().end()

    def _error(self, code: ErrorCode, message: str, id: int | None) -> bytes:
        return self._refusal


class _Work:
    """A message that is being taken."""

    __slots__ = ("events", "key", "known", "part", "route", "steps")

    def __init__(self, events: Events, route: Route, key: bytes | None, known: int) -> None:
        self.events = events
        self.route = route
        self.key = key
        self.known = known
        """Entries that are in the stream."""
        self.steps: Iterator[Step] = iter(())
        self.part: Part | None = None
        """Made, and not appended yet."""


class _ReceivedAndWork:
    """What a connection holds: the receive buffer's memory, and some to work in."""

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


def _ack(events: Events) -> bytes:
    return _ACK + bytes(events.options.chunk)


def _explained(error: ProtocolError, events: Events) -> ProtocolError:
    """The error, and whose it is."""
    tag = events.tag[:100].decode(errors="backslashreplace")
    chunk = chunk_text(events.options)
    which = f" chunk={chunk!r}" if chunk else ""
    return ProtocolError(error.code, f"{error.message} tag={tag!r}{which}")
