"""A connection of protocol `forward`: messages in, an acknowledgement for each durable chunk.

The protocol has no word for a refusal: a connection on which something makes no sense is closed.
What was not acknowledged on it is the peer's, to send again or to keep.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.connection import Connection, Wait
from hf_agent.ingest.durable_acks import Acknowledged
from hf_agent.ingest.endpoint import Endpoint
from hf_agent.ingest.forward.chunk import (
    SLICE_BYTES,
    Part,
    Step,
    as_slice,
    check_options,
    is_small,
    parts,
)
from hf_agent.ingest.forward.dedup import chunk_key, chunk_keys
from hf_agent.ingest.forward.entries import wrong_size
from hf_agent.ingest.forward.group import Group, Member
from hf_agent.ingest.forward.handshake import Handshake
from hf_agent.ingest.forward.messages import Events, Ping, chunk_text
from hf_agent.ingest.forward.reader import MessageReader
from hf_agent.ingest.forward.settings import ForwardSettings, Route
from hf_agent.ingest.receive_buffer import ReceiveBuffer
from hf_agent.ingest.received_and_work import ReceivedAndWork
from hf_agent.ingest.sink import NO_CHUNKS, WHOLE_CHUNK, Chunks, Rejected
from hf_agent.ingest.stream_name import STREAM_NAME_RULE

__all__ = ["ForwardConnection"]

_SALT_BYTES: Final = 16
_ACK: Final = b"\x81\xa3ack"
"""A map of one pair, whose value is the chunk's id as it came."""
_MOST_DUE: Final = 1 << 20
"""Bytes of acknowledgements that wait for the disk, after which a connection waits, too."""


class ForwardConnection(Connection):
    """Takes what arrived together as one append, or as several if it is large."""

    protocol = "forward"

    def __init__(self, endpoint: Endpoint, settings: ForwardSettings) -> None:
        super().__init__(endpoint)
        self._settings = settings
        self._holding = ReceivedAndWork(self._share)
        self._buffer = ReceiveBuffer(self._holding)
        self._reader = MessageReader(settings.max_message_bytes, self._buffer)
        self._handshake: Handshake | None = None
        self._refusal = b""
        self._group = Group()
        self._work: _Work | None = None
        self._appends = 0
        self._due: deque[tuple[int, bytes]] = deque()
        """Acknowledgements to be sent once the append of this number is durable."""
        self._due_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        secrets = self._settings.secrets
        if secrets is not None and not self._ending:
            nonce, salt = (self._endpoint.rng.randbytes(_SALT_BYTES) for _ in range(2))
            self._handshake = Handshake(secrets, self._settings.hostname, nonce, salt)
            self._write(self._handshake.helo())

    # -- taking ----------------------------------------------------------------------------

    def _take(self) -> None:
        try:
            while not self._waits and not self._ending and self._take_one():
                pass
        except ProtocolError:
            # What came before makes sense, or else is what is wrong first.
            self._append_group()
            raise
        self._append_group()

    def _take_one(self) -> bool:
        """Take a message, or a part of one. False: there is none."""
        if self._work is not None:
            self._go_on_working(self._work)
            return True
        if self._take_run():
            return True
        message = self._reader.next()
        if message is None:
            return False
        if isinstance(message, Events):
            try:
                self._on_events(message)
            except ProtocolError as error:
                raise _explained(error, message) from error
        else:
            if isinstance(message, Ping):
                self._on_ping(message)
            self._reader.consume()
        return True

    def _take_rest(self) -> None:
        self._count_incomplete()

    def _on_ping(self, ping: Ping) -> None:
        if self._handshake is None:
            raise ProtocolError(ErrorCode.MALFORMED, "PING came without a HELO, or twice")
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
        key = chunk_key(events) if events.options.chunk else None
        if not self._group.takes(events, key):
            self._append_group()
        known = 0 if key is None else self._sink.chunk_progress(key)
        if known == WHOLE_CHUNK:
            self._endpoint.metrics.deduplicated_records.inc(events.count or 1)
            self._on_known(events)
            self._reader.consume()
        elif not self._group and not self._sink.accepts():
            self._wait_for_room()
        elif not known and is_small(events):
            # It may be the first of a kind that the next ones are of, too.
            if not self._take_run():
                self._group.add(route, events, as_slice(events), key)
                self._reader.consume()
        else:
            self._append_group()
            self._work = _Work(events, route, key, known, self._parts(events, route, known))

    def _take_run(self) -> bool:
        """Take messages that are packed alike, if there are some, as one append. False: none."""
        reader = self._reader
        run = reader.run(SLICE_BYTES)
        if run is None:
            return False
        route = self._settings.route(run.tag)
        keys = chunk_keys(run.tag, run.chunks, run.entries)
        chunks = dict.fromkeys(keys, WHOLE_CHUNK)
        data = None
        if (
            self._handshake is None
            and route is not None
            and len(chunks) == len(keys)
            and self._sink.knows_none(chunks)
            and self._sink.accepts()
        ):
            data = route.format.format_many(run.entries, run.counts, run.tag)
        if route is None or data is None or len(data) > self._settings.max_part_bytes:
            reader.part_run()  # whatever it is, it is seen to message by message
            return False
        self._append_group()
        acks = _ACK + _ACK.join(run.chunks)
        self._append(route, data, sum(run.counts), chunks, acks)
        reader.consume_run()
        return True

    def _on_nothing(self, events: Events) -> None:
        """A message without entries: some peers send them to see whether somebody is there."""
        if events.options.size:
            raise wrong_size(events.options.size, 0)
        self._on_known(events)
        self._reader.consume()

    def _on_known(self, events: Events) -> None:
        """Nothing to take: acknowledged when everything taken so far is durable."""
        if not events.options.chunk:
            return
        self._append_group()
        self._appends += 1
        self._owe(_ack(events))
        batch = self._sink.barrier()
        if self._acks.known(batch, self._appends):
            self._watch_batch(batch)

    # -- small messages --------------------------------------------------------------------

    def _append_group(self) -> None:
        """Append what was gathered. Raises `ProtocolError` after what came before the error."""
        group = self._group
        if not group:
            return
        self._group = Group()
        assert group.route is not None
        members, route = group.members, group.route
        if len(members) > 1:
            slices = [member.entries for member in members]
            data = route.format.format_many(
                [slice_.data for slice_ in slices],
                [slice_.number for slice_ in slices],
                members[0].events.tag,
            )
            if data is not None and len(data) <= self._settings.max_part_bytes:
                self._append_whole(members, route, data)
                return
        for member in members:
            try:
                self._append_one(member, route)
            except ProtocolError as error:
                raise _explained(error, member.events) from error

    def _append_one(self, member: Member, route: Route) -> None:
        events, entries, key = member
        data = route.format.format(entries, events.tag, events.options.metadata)
        if len(data) <= self._settings.max_part_bytes:
            self._append_whole([member], route, data)
            return
        work = _Work(events, route, key, 0, self._parts(events, route, 0))
        for part in work.steps:
            if part is not None:
                self._append_part(work, part)

    def _append_whole(self, members: Sequence[Member], route: Route, data: bytes) -> None:
        """Append all entries of these messages, as `data`."""
        chunks = {key: WHOLE_CHUNK for _, _, key in members if key is not None}
        acks = b"".join([_ack(events) for events, _, key in members if key is not None])
        number = sum(entries.number for _, entries, _ in members)
        self._append(route, data, number, chunks, acks)

    # -- large messages --------------------------------------------------------------------

    def _parts(self, events: Events, route: Route, known: int) -> Iterator[Step]:
        return parts(
            events,
            route.format,
            max_part_bytes=self._settings.max_part_bytes,
            max_unpacked_bytes=self._settings.max_unpacked_bytes,
            known=known,
        )

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
        work.part = None
        self._append_part(work, part)
        if part.is_last:
            self._work = None
            self._holding.work = 0
            self._share.resize(self._buffer.capacity)
            self._reader.consume()
        else:
            self._let_others()

    def _may_work(self) -> bool:
        """Have memory to make parts in. False: not now."""
        if self._holding.work or self._draining or self._transport is None:
            return True  # the connection is about to end: no more memory than this will be held
        work = 2 * self._settings.max_part_bytes + 2 * SLICE_BYTES
        if self._share.resize(self._buffer.capacity + work):
            self._holding.work = work
            return True
        self._waits.add(Wait.MEMORY)
        self._share.wait(self._buffer.capacity + work)
        return False

    def _let_others(self) -> None:
        self._waits.add(Wait.TURN)
        asyncio.get_running_loop().call_soon(self._go_on, Wait.TURN)

    def _append_part(self, work: _Work, part: Part) -> None:
        events, key = work.events, work.key
        if not part.data:
            self._on_known(events)  # something compressed, and nothing in it
            return
        work.known += part.number
        chunks = NO_CHUNKS if key is None else {key: _progress(work, part)}
        ack = _ack(events) if part.is_last and key is not None else b""
        self._append(work.route, part.data, part.number, chunks, ack)

    # -- appending -------------------------------------------------------------------------

    def _append(self, route: Route, data: bytes, number: int, chunks: Chunks, acks: bytes) -> None:
        """Append `number` entries; `acks` are due when they are durable."""
        try:
            receipt = self._sink.append(
                route.stream, data, records=number, mark=None, chunks=chunks
            )
        except Rejected as error:
            raise ProtocolError(ErrorCode(error.code), error.message) from error
        self._appends += 1
        if acks:
            self._owe(acks)
        if route.is_fallback:
            self._endpoint.metrics.forward_fallback_records.inc(number)
        self._taken(receipt, self._appends, route.stream, number, len(data))

    def _owe(self, acks: bytes) -> None:
        """Send `acks` once the append that was counted last is durable."""
        self._due.append((self._appends, acks))
        self._due_bytes += len(acks)
        if self._due_bytes > _MOST_DUE and not self._draining and self._transport is not None:
            # What is due for messages that add nothing to the log is bounded nowhere else.
            self._waits.add(Wait.REQUESTS)
            self._share.excuse(True)

    def _acknowledge(self, acknowledged: Acknowledged) -> None:
        due = self._due
        acks = []
        while due and due[0][0] <= acknowledged.id:
            acks.append(due.popleft()[1])
        if not acks:
            return
        answer = b"".join(acks)
        self._due_bytes -= len(answer)
        self._write(answer)
        if Wait.REQUESTS in self._waits and self._due_bytes <= _MOST_DUE:
            self._share.excuse(False)
            asyncio.get_running_loop().call_soon(self._go_on, Wait.REQUESTS)
        if self._output_paused and not self._ending:
            # Who does not read acknowledgements is not read from.
            self._waits.add(Wait.OUTPUT)

    # -- the end ---------------------------------------------------------------------------

    def drain(self) -> None:
        self._waits -= {Wait.OUTPUT, Wait.REQUESTS}
        super().drain()

    def end(self) -> None:
        self._work = None
        self._holding.work = 0
        super().end()

    def _error(self, code: ErrorCode, message: str, id: int | None) -> bytes:
        return self._refusal


class _Work:
    """A message that is being taken, part by part."""

    __slots__ = ("events", "key", "known", "part", "route", "steps")

    def __init__(
        self, events: Events, route: Route, key: bytes | None, known: int, steps: Iterator[Step]
    ) -> None:
        self.events = events
        self.route = route
        self.key = key
        self.known = known
        """Entries that are in the stream."""
        self.steps = steps
        self.part: Part | None = None
        """Made, and not appended yet."""


def _progress(work: _Work, part: Part) -> int:
    return WHOLE_CHUNK if part.is_last else work.known


def _ack(events: Events) -> bytes:
    return _ACK + events.options.chunk


class _Explained(ProtocolError):
    """Says whose error it is."""


def _explained(error: ProtocolError, events: Events) -> _Explained:
    """The error of this message, if it is not that of another already."""
    if isinstance(error, _Explained):
        return error
    tag = events.tag[:100].decode(errors="backslashreplace")
    which = f" chunk={chunk_text(events.options)!r}" if events.options.chunk else ""
    return _Explained(error.code, f"{error.message} tag={tag!r}{which}")
