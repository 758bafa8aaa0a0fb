"""What a connection of protocol `append` says: acknowledgements, and answers to requests.

What goes out is bounded: of acknowledgements only the latest state is kept while the client does
not read, and every other answer stops the connection until it does.
"""

from __future__ import annotations

import asyncio

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.append_messages import (
    Ack,
    AgentMessage,
    Error,
    Flush,
    Flushed,
    Status,
    StatusAnswer,
    Stored,
)
from hf_agent.ingest.append_protocol import encode
from hf_agent.ingest.connection import Connection, Wait
from hf_agent.ingest.durable_acks import Acknowledged
from hf_agent.ingest.endpoint import Endpoint
from hf_agent.ingest.sink import Rejected
from hf_agent.ingest.store_acks import StoreAcks

__all__ = ["AnsweringConnection"]

_MAX_REQUESTS = 16
"""Flush requests under way on one connection."""


class AnsweringConnection(Connection):
    """The half that answers. The other half takes appends, and says when it has greeted."""

    protocol = "append"
    may_linger = True

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._greeted = False
        self._requests: set[asyncio.Task[None]] = set()
        self._store_acks = StoreAcks(self._sink, self._on_stored)
        self._ack: Ack | None = None
        self._stored: Stored | None = None

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

    def _error(self, code: ErrorCode, message: str, id: int | None) -> bytes:
        return encode(Error(code, message, id))
