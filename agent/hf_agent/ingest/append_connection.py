"""A connection of protocol `append`: who speaks, and which of its appends are taken.

Whatever can refuse an append is asked before any of it is taken. What depends on the moment must
not be overtaken by what was sent behind it: either the connection ends, or it holds until the
client says that it knows.
"""

from __future__ import annotations

from collections.abc import Sequence

from hf_agent import __version__
from hf_agent.ingest.append_answers import AnsweringConnection
from hf_agent.ingest.append_checks import AppendChecks
from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.append_messages import (
    ACK_STORE,
    FEATURES,
    MAX_BATCH_RECORDS,
    MAX_ID,
    MAX_MULTI_STREAMS,
    VERSION,
    Append,
    Batch,
    Error,
    Flush,
    Hello,
    Limits,
    Multi,
    Part,
    Resume,
    Welcome,
)
from hf_agent.ingest.append_protocol import (
    FRAME_SLACK,
    decode_client,
    decode_hello_options,
)
from hf_agent.ingest.connection import Wait
from hf_agent.ingest.endpoint import Endpoint
from hf_agent.ingest.producers import is_producer_name
from hf_agent.ingest.sink import Mark, Rejected

__all__ = ["AppendConnection"]


class AppendConnection(AnsweringConnection):
    """Takes appends in the order of their ids, each of them at most once for a producer."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._max_record_bytes = endpoint.config.max_record_bytes
        self._max_frame_bytes = self._max_record_bytes + FRAME_SLACK
        self._decoder = decode_client(self._max_frame_bytes, self._buffer)
        self._producer: str | None = None
        self._known_id = 0
        self._last_id = 0
        self._epoch = 0
        self._held_by = 0
        """The refused append whose `resume` is waited for; 0: none."""
        self._checks = AppendChecks(self._max_record_bytes, self._sink)

    # -- taking ----------------------------------------------------------------------------

    def _take(self) -> None:
        decoder = self._decoder
        while not self._waits and not self._ending:
            message = decoder.next()
            if message is None:
                return
            if self._held_by and not isinstance(message, Resume):
                # Sent before the client knew that what this may build on was refused.
                decoder.consume()
                continue
            if isinstance(message, Append):
                done = self._on_append(message)
            elif isinstance(message, Batch):
                done = self._on_batch(message)
            elif isinstance(message, Multi):
                done = self._on_multi(message)
            elif isinstance(message, Hello):
                done = self._on_hello(message)
            elif isinstance(message, Resume):
                done = self._on_resume(message)
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
        options = decode_hello_options(hello)
        if options.producer is not None:
            return self._on_producer(options.producer, options.epoch)
        if options.epoch:
            raise ProtocolError(ErrorCode.MALFORMED, "an epoch needs a producer name")
        self._greeted = True
        self._welcome()
        return True

    def _on_producer(self, producer: str, epoch: int) -> bool:
        if not is_producer_name(producer):
            raise ProtocolError(
                ErrorCode.MALFORMED,
                "no producer name allowed='1-128 of A-Z a-z 0-9 . _ : -'",
            )
        sink = self._sink
        known = sink.known(producer)
        if epoch < known.epoch:
            raise ProtocolError(ErrorCode.FENCED, _fenced(producer, epoch, known.epoch))
        batch = None
        if epoch:
            if epoch > known.epoch and not sink.accepts():
                self._wait_for_room()
                return False
            self._known_id = known.id if epoch == known.epoch else 0
            try:
                batch = sink.raise_mark(Mark(producer, self._known_id, epoch))
            except Rejected as error:
                raise ProtocolError(ErrorCode(error.code), error.message) from error
        else:
            self._known_id = known.id
        self._greeted = True
        self._producer = producer
        self._epoch = epoch
        # Whoever spoke for it before takes nothing more from here on, so the highest known id
        # is only raised by this connection, where ids rise anyway.
        self._endpoint.producers.claim(producer, self, epoch)
        if batch is None:
            self._welcome()
            return True
        # The older epoch must stay shut out whatever dies next: only then is this one told so.
        self._waits.add(Wait.EPOCH)
        self._share.excuse(True)
        sink.notify_durable(batch, self._on_epoch_durable)
        return True

    def _on_epoch_durable(self) -> None:
        if Wait.EPOCH in self._waits:
            self._share.excuse(False)
            self._welcome()
            self._go_on(Wait.EPOCH)

    def _welcome(self) -> None:
        limits = Limits(
            max_record_bytes=self._max_record_bytes,
            max_frame_bytes=self._max_frame_bytes,
            max_batch_records=MAX_BATCH_RECORDS,
            node=self._endpoint.node,
            last_id=self._known_id,
            agent_version=__version__,
            max_multi_streams=MAX_MULTI_STREAMS,
            features=FEATURES,
        )
        self._answer(Welcome(VERSION, limits))

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
        self._check_order(first, last)
        stream = message.stream
        expected = message.expect_position
        # What is refused for what it is must be so on a resend too, before it is taken for known.
        refusal = self._checks.refusal((stream,), nbytes, message.ack)
        if refusal is not None:
            self._refuse(*refusal, first, last, holds=expected is not None)
            return True
        data = message.data
        known = self._known_id
        resent = 0
        if first <= known:
            resent = min(last, known) - first + 1
            if last <= known or lengths is None:
                self._on_known((stream,), message.ack, last, resent)
                return True
            resent_bytes = sum(lengths[:resent])
            data = data[resent_bytes:]
            if expected is not None:
                expected += resent_bytes
        elif nbytes == 0 and expected is None:
            # An append of nothing changes nothing; it is answered in its turn.
            self._on_known((stream,), message.ack, last, 0)
            return True
        if not self._sink.accepts():
            self._wait_for_room()
            return False
        if expected is not None:
            position = self._sink.position(stream)
            if position != expected:
                self._refuse_mismatch(first, last, {stream: position})
                return True
        records = last - first + 1 - resent
        nbytes = len(data)
        try:
            if not nbytes:
                self._on_nothing((stream,), message.ack, last, resent)
                return True
            receipt = self._sink.append(
                stream, self._buffer.keep(data), records=records, mark=self._mark(last)
            )
        except Rejected as error:
            self._on_rejected(error, first, last, holds=expected is not None)
            return True
        if resent:
            self._endpoint.metrics.deduplicated_records.inc(resent)
        self._last_id = last
        self._taken(receipt, last, stream, records, nbytes)
        if message.ack == ACK_STORE:
            self._store_acks.want(last, ((stream, receipt.position),))
        return True

    def _on_multi(self, message: Multi) -> bool:
        """Take one append to several streams. False: not now."""
        id, parts, ack = message.id, message.parts, message.ack
        streams = [part.stream for part in parts]
        nbytes = len(message.data)
        if sum(part.length for part in parts) != nbytes:
            raise ProtocolError(
                ErrorCode.MALFORMED,
                f"lengths of the parts do not sum up to the data bytes={nbytes}",
                id,
            )
        if len(set(streams)) < len(streams):
            raise ProtocolError(ErrorCode.MALFORMED, "two parts are of the same stream", id)
        self._check_order(id, id)
        conditional = any(part.expect_position is not None for part in parts)
        refusal = self._checks.refusal(streams, nbytes, ack)
        if refusal is not None:
            self._refuse(*refusal, id, id, holds=conditional)
            return True
        if id <= self._known_id:
            self._on_known(streams, ack, id, 1)
            return True
        if not self._sink.accepts():
            self._wait_for_room()
            return False
        if conditional and (elsewhere := self._elsewhere(parts)):
            self._refuse_mismatch(id, id, elsewhere)
            return True
        try:
            if not nbytes:
                self._on_nothing(streams, ack, id, 0)
                return True
            taken = [part for part in parts if part.length]
            receipts = self._sink.append_all(self._pieces(message), mark=self._mark(id))
        except Rejected as error:
            self._on_rejected(error, id, id, holds=conditional)
            return True
        self._last_id = id
        ends = []
        for index, (part, receipt) in enumerate(zip(taken, receipts, strict=True)):
            self._taken(receipt, id, part.stream, 0 if index else 1, part.length)
            ends.append((part.stream, receipt.position))
        if ack == ACK_STORE:
            self._store_acks.want(id, ends)
        return True

    def _elsewhere(self, parts: list[Part]) -> dict[str, int]:
        """Where the streams are that are not where a part expects them."""
        position = self._sink.position
        return {
            part.stream: position(part.stream)
            for part in parts
            if part.expect_position not in (None, position(part.stream))
        }

    def _pieces(self, message: Multi) -> list[tuple[str, memoryview]]:
        """Each part that is not empty, with its bytes in memory that may be kept."""
        data = memoryview(self._buffer.keep(message.data))
        pieces = []
        at = 0
        for part in message.parts:
            if part.length:
                pieces.append((part.stream, data[at : at + part.length]))
                at += part.length
        return pieces

    def _check_order(self, first: int, last: int) -> None:
        if not self._greeted:
            raise ProtocolError(ErrorCode.NOT_HELLO, "the first message must be hello", first)
        if first <= self._last_id or last > MAX_ID:
            raise ProtocolError(
                ErrorCode.BAD_ID, f"ids must rise id={first} last={self._last_id}", first
            )

    def _mark(self, id: int) -> Mark | None:
        return None if self._producer is None else Mark(self._producer, id, self._epoch)

    def _on_known(self, streams: Sequence[str], ack: str, last: int, records: int) -> None:
        """Taken before, or nothing to take: durable when everything taken so far is."""
        self._last_id = last
        if records:
            self._endpoint.metrics.deduplicated_records.inc(records)
        batch = self._sink.barrier()
        if self._acks.known(batch, last):
            self._watch_batch(batch)
        if ack == ACK_STORE:
            self._store_acks.want(last, ((stream, None) for stream in streams))

    def _on_nothing(self, streams: Sequence[str], ack: str, last: int, resent: int) -> None:
        """Nothing to take, but what was expected held: a resend must be told so too."""
        mark = self._mark(last)
        if mark is not None:
            self._sink.raise_mark(mark)
        self._on_known(streams, ack, last, resent)

    # -- refusing --------------------------------------------------------------------------

    def _on_rejected(self, error: Rejected, first: int, last: int, *, holds: bool) -> None:
        code = ErrorCode(error.code)
        # A producer's later appends must not overtake a refused one that it may send again.
        # Else, were the refusal lost on the way, the resend would be taken for known.
        if error.permanent and self._producer is None:
            self._refuse(code, error.message, first, last, holds=holds)
            return
        self._count_rejected(code, last - first)
        raise ProtocolError(code, error.message, first) from error

    def _refuse(self, code: ErrorCode, message: str, first: int, last: int, *, holds: bool) -> None:
        self._last_id = last
        self._count_rejected(code, last - first + 1)
        self._answer(Error(code, message, first))
        if holds:
            self._held_by = first

    def _refuse_mismatch(self, first: int, last: int, positions: dict[str, int]) -> None:
        self._last_id = last
        code = ErrorCode.POSITION_MISMATCH
        self._count_rejected(code, last - first + 1)
        text = " ".join(f"{stream}={position}" for stream, position in positions.items())
        message = f"stream is not at the expected position {text}"
        self._answer(Error(code, message, first, positions))
        self._held_by = first

    def _on_resume(self, message: Resume) -> bool:
        if message.id != self._held_by:
            raise ProtocolError(
                ErrorCode.MALFORMED, f"no refusal waits for resume id={message.id}", message.id
            )
        self._held_by = 0
        return True

    # -- the end ---------------------------------------------------------------------------

    def supersede(self, epoch: int) -> None:
        """Another connection speaks for this producer from now on."""
        if epoch > self._epoch:
            assert self._producer is not None
            self.fail(ErrorCode.FENCED, _fenced(self._producer, self._epoch, epoch))
            return
        self.fail(
            ErrorCode.SUPERSEDED, f"another connection uses this name producer={self._producer}"
        )

    def _closed(self) -> None:
        super()._closed()
        if self._producer is not None:
            self._endpoint.producers.release(self._producer, self)


def _fenced(producer: str, epoch: int, known: int) -> str:
    return f"producer goes on in a later epoch producer={producer} epoch={epoch} known={known}"
