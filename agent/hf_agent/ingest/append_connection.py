"""A connection of protocol `append`: appends in, cumulative acknowledgements out.

What goes out is bounded: of acknowledgements only the latest state is kept while the client does
not read, and every other answer stops the connection until it does.
"""

from __future__ import annotations

import asyncio

from hf_agent import __version__
from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.append_messages import (
    ACK_STORE,
    ACK_WAL,
    MAX_BATCH_RECORDS,
    MAX_ID,
    VERSION,
    Ack,
    AgentMessage,
    Append,
    Batch,
    Error,
    Flush,
    Flushed,
    Hello,
    Limits,
    Status,
    StatusAnswer,
    Stored,
    Welcome,
)
from hf_agent.ingest.append_protocol import (
    FRAME_SLACK,
    decode_client,
    decode_hello_options,
    encode,
)
from hf_agent.ingest.connection import Connection, Wait
from hf_agent.ingest.durable_acks import Acknowledged
from hf_agent.ingest.endpoint import Endpoint
from hf_agent.ingest.producers import is_producer_name
from hf_agent.ingest.sink import Mark, Rejected
from hf_agent.ingest.store_acks import StoreAcks
from hf_agent.ingest.stream_name import STREAM_NAME_RULE, is_stream_name

__all__ = ["AppendConnection"]

_MAX_REQUESTS = 16
"""Flush requests under way on one connection."""

_NAMES_REMEMBERED = 1024
"""Stream names found valid that a connection remembers."""


class AppendConnection(Connection):
    """Takes appends in the order of their ids, each of them at most once for a producer."""

    protocol = "append"
    may_linger = True

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._max_record_bytes = endpoint.config.max_record_bytes
        self._max_frame_bytes = self._max_record_bytes + FRAME_SLACK
        self._decoder = decode_client(self._max_frame_bytes, self._buffer)
        self._greeted = False
        self._producer: str | None = None
        self._known_id = 0
        self._last_id = 0
        self._names: set[str] = set()
        self._requests: set[asyncio.Task[None]] = set()
        self._store_acks = StoreAcks(self._sink, self._on_stored)
        self._ack: Ack | None = None
        self._stored: Stored | None = None

    # -- taking ----------------------------------------------------------------------------

    def _take(self) -> None:
        decoder = self._decoder
        while not self._waits and not self._ending:
            message = decoder.next()
            if message is None:
                return
            if isinstance(message, Append):
                done = self._on_append(message)
            elif isinstance(message, Batch):
                done = self._on_batch(message)
            elif isinstance(message, Hello):
                done = self._on_hello(message)
            elif isinstance(message, Flush):
                done = self._on_flush(message)
            else:
                done = self._on_status(message)
            if not done:
                return
            if not self._ending:
                decoder.consume()

    def _take_rest(self) -> None:
        if len(self._buffer):
            self._count_incomplete()
            self._last_word = self._error(
                ErrorCode.MALFORMED, "connection ended inside a message", None
            )

    def _on_hello(self, hello: Hello) -> bool:
        if self._greeted:
            raise ProtocolError(ErrorCode.MALFORMED, "hello came twice")
        if hello.version != VERSION:
            raise ProtocolError(
                ErrorCode.BAD_VERSION,
                f"protocol version is not spoken here version={hello.version} spoken={VERSION}",
            )
        producer = decode_hello_options(hello).producer
        if producer is not None:
            if not is_producer_name(producer):
                raise ProtocolError(
                    ErrorCode.MALFORMED,
                    "no producer name allowed='1-128 of A-Z a-z 0-9 . _ : -'",
                )
            self._producer = producer
            # Whoever spoke for it before takes nothing more from here on, so the highest known id
            # is only raised by this connection, where ids rise anyway.
            self._endpoint.producers.claim(producer, self)
            self._known_id = self._sink.last_id(producer)
        self._greeted = True
        limits = Limits(
            max_record_bytes=self._max_record_bytes,
            max_frame_bytes=self._max_frame_bytes,
            max_batch_records=MAX_BATCH_RECORDS,
            node=self._endpoint.node,
            last_id=self._known_id,
            agent_version=__version__,
        )
        self._answer(Welcome(VERSION, limits))
        return True

    def _on_append(self, message: Append) -> bool:
        nbytes = len(message.data)
        return self._on_records(message, message.id, message.id, nbytes, None)

    def _on_batch(self, message: Batch) -> bool:
        lengths = message.lengths
        nbytes = len(message.data)
        if sum(lengths) != nbytes:
            raise ProtocolError(
                ErrorCode.MALFORMED,
                f"lengths of the batch do not sum up to its data bytes={nbytes}",
                message.first_id,
            )
        last_id = message.first_id + len(lengths) - 1
        return self._on_records(message, message.first_id, last_id, nbytes, lengths)

    def _on_records(
        self, message: Append | Batch, first: int, last: int, nbytes: int, lengths: list[int] | None
    ) -> bool:
        """Take ids `first` to `last`. False: not now."""
        if not self._greeted:
            raise ProtocolError(ErrorCode.NOT_HELLO, "the first message must be hello", first)
        if first <= self._last_id or last > MAX_ID:
            raise ProtocolError(
                ErrorCode.BAD_ID, f"ids must rise id={first} last={self._last_id}", first
            )
        # What is refused for what it is must be so on a resend too, before it is taken for known.
        refusal = self._refusal(message, nbytes)
        if refusal is not None:
            self._last_id = last
            self._refuse(*refusal, first, last - first + 1)
            return True
        data = message.data
        known = self._known_id
        if first <= known:
            resent = min(last, known) - first + 1
            if last <= known or lengths is None:
                self._on_known(message, last, resent)
                return True
            data = data[sum(lengths[:resent]) :]
        elif nbytes == 0:
            # An append of nothing changes nothing; it is answered in its turn.
            self._on_known(message, last, 0)
            return True
        else:
            resent = 0
        if not self._sink.accepts():
            self._wait_for_room()
            return False
        records = last - first + 1 - resent
        mark = None if self._producer is None else Mark(self._producer, last)
        nbytes = len(data)
        try:
            receipt = self._sink.append(
                message.stream, self._buffer.keep(data), records=records, mark=mark
            )
        except Rejected as error:
            self._on_rejected(error, first, last)
            return True
        if resent:
            self._endpoint.metrics.deduplicated_records.inc(resent)
        self._last_id = last
        self._traffic.received_records += records
        self._traffic.received_bytes += nbytes
        self._taken(receipt.batch, last, message.stream, receipt.position, records)
        if message.ack == ACK_STORE:
            self._store_acks.want(last, message.stream, receipt.position)
        return True

    def _refusal(self, message: Append | Batch, nbytes: int) -> tuple[ErrorCode, str] | None:
        if nbytes > self._max_record_bytes:
            return (
                ErrorCode.RECORD_TOO_LARGE,
                f"record or batch is over the limit bytes={nbytes} limit={self._max_record_bytes}",
            )
        if message.ack not in (ACK_WAL, ACK_STORE):
            return ErrorCode.BAD_ACK, "no such acknowledgement known='wal store'"
        names = self._names
        if message.stream not in names:
            if not is_stream_name(message.stream):
                return ErrorCode.BAD_STREAM, f"no stream name {STREAM_NAME_RULE}"
            try:
                self._sink.check_stream(message.stream)
            except Rejected as error:
                return ErrorCode(error.code), error.message
            if len(names) >= _NAMES_REMEMBERED:
                names.clear()
            names.add(message.stream)
        return None

    def _on_known(self, message: Append | Batch, last: int, records: int) -> None:
        """Taken before, or nothing to take: durable when everything taken so far is."""
        self._last_id = last
        if records:
            self._endpoint.metrics.deduplicated_records.inc(records)
        batch = self._sink.barrier()
        if self._acks.known(batch, last):
            self._watch_batch(batch)
        if message.ack == ACK_STORE:
            self._store_acks.want(last, message.stream, None)

    def _on_rejected(self, error: Rejected, first: int, last: int) -> None:
        code = ErrorCode(error.code)
        records = last - first + 1
        # A producer's later appends must not overtake a refused one that it may send again.
        # Else, were the refusal lost on the way, the resend would be taken for known.
        if error.permanent and self._producer is None:
            self._last_id = last
            self._refuse(code, error.message, first, records)
            return
        self._count_rejected(code, records - 1)
        raise ProtocolError(code, error.message, first) from error

    def _refuse(self, code: ErrorCode, message: str, id: int, records: int) -> None:
        self._count_rejected(code, records)
        self._answer(Error(code, message, id))

    # -- requests --------------------------------------------------------------------------

    def _on_flush(self, message: Flush) -> bool:
        if not self._greeted:
            raise ProtocolError(ErrorCode.NOT_HELLO, "the first message must be hello")
        task = asyncio.get_running_loop().create_task(self._flush(message))
        self._requests.add(task)
        task.add_done_callback(self._on_request_done)
        if len(self._requests) >= _MAX_REQUESTS:
            self._waits.add(Wait.REQUESTS)
        return True

    async def _flush(self, message: Flush) -> None:
        try:
            await self._sink.flush(message.stream)
        except Rejected as error:
            self._answer(Error(error.code, error.message, message.request))
        else:
            self._answer(Flushed(message.request))

    def _on_request_done(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        if self._ending:
            self._close_if_done()
        else:
            self._go_on(Wait.REQUESTS)

    def _on_status(self, message: Status) -> bool:
        if not self._greeted:
            raise ProtocolError(ErrorCode.NOT_HELLO, "the first message must be hello")
        self._answer(StatusAnswer(message.request, self._sink.status()))
        return True

    # -- answers ---------------------------------------------------------------------------

    def _answer(self, message: AgentMessage) -> None:
        """Send an answer that no later one can stand for."""
        self._write(encode(message))
        if self._output_paused and not self._ending:
            self._waits.add(Wait.OUTPUT)

    def _acknowledge(self, acknowledged: Acknowledged) -> None:
        held = self._ack
        positions = acknowledged.positions
        if held is not None:
            positions = held.positions | positions
        self._ack = Ack(acknowledged.id, positions)
        if not self._output_paused:
            self._send_acks()

    def _on_stored(self, id: int, positions: dict[str, int]) -> None:
        held = self._stored
        if held is not None:
            positions = held.positions | positions
        self._stored = Stored(id, positions)
        if not self._output_paused:
            self._send_acks()
        if self._ending:
            self._close_if_done()

    def _send_acks(self) -> None:
        if self._ack is not None:
            self._write(encode(self._ack))
            self._ack = None
        if self._stored is not None:
            self._write(encode(self._stored))
            self._stored = None

    def resume_writing(self) -> None:
        self._output_paused = False
        self._send_acks()
        super().resume_writing()

    # -- the end ---------------------------------------------------------------------------

    def supersede(self) -> None:
        """Another connection speaks for this producer from now on."""
        self.fail(
            ErrorCode.SUPERSEDED, f"another connection uses this name producer={self._producer}"
        )

    def drain(self) -> None:
        # The store may be away for longer than a stop may take. Those who wait for it ask again.
        self._waits -= {Wait.REQUESTS, Wait.OUTPUT}
        super().drain()
        if self._ending and self._outstanding():
            self._give_up_requests()
            self._last_word = self._last_word or self._error(
                ErrorCode.SHUTTING_DOWN, "agent is shutting down", None
            )
            self._close_if_done()

    def end(self) -> None:
        if not self._eof or self._draining:
            self._give_up_requests()
        super().end()

    def _give_up_requests(self) -> None:
        self._store_acks.close()
        for task in self._requests:
            task.cancel()
        self._requests.clear()

    def _outstanding(self) -> bool:
        return bool(self._acks or self._store_acks or self._requests)

    def _close_if_done(self) -> None:
        if not self._outstanding():
            self._send_acks()
        super()._close_if_done()

    def _closed(self) -> None:
        self._give_up_requests()
        if self._producer is not None:
            self._endpoint.producers.release(self._producer, self)

    def _error(self, code: ErrorCode, message: str, id: int | None) -> bytes:
        return encode(Error(code, message, id))
