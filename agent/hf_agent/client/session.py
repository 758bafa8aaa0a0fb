"""A client's side of protocol `append` without I/O, over any number of connections.

It says what to send and takes what was received. Who drives it connects, and calls `begin` and
`lost`. It is not thread-safe.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import Raw
from msgspec.msgpack import encode as pack

from hf_agent.client.errors import AgentRefused, ClientError, Fenced, RequestRefused, Superseded
from hf_agent.client.options import ClientOptions
from hf_agent.client.outbox import Outbox, Refused
from hf_agent.ingest.append_errors import FATAL, RETRY, ErrorCode, ProtocolError
from hf_agent.ingest.append_messages import (
    FEATURE_EPOCH,
    MAX_ID,
    VERSION,
    Ack,
    AgentMessage,
    Error,
    Flush,
    Flushed,
    Hello,
    HelloOptions,
    Resume,
    Status,
    StatusAnswer,
    Stored,
    Welcome,
)
from hf_agent.ingest.append_protocol import decode_agent, encode
from hf_agent.ingest.receive_buffer import ReceiveBuffer

__all__ = ["ConnectionEnded", "Request", "Session"]

_OUTPUT_BYTES = 256 << 10
_MANY_PIECES = 16


class ConnectionEnded(Exception):
    """The agent ends this connection; a new one may fare better."""


class Request:
    """A `flush` or `status` that was asked for. Sent again on a new connection."""

    __slots__ = ("after_id", "carried_stream", "done", "error", "message", "number", "result")

    def __init__(self, number: int, message: Flush | Status, after_id: int) -> None:
        self.number = number
        self.message = message
        self.after_id = after_id
        self.carried_stream: str | None = None
        self.done = False
        self.result: dict[str, Any] = {}
        self.error: ClientError | None = None


class Session:
    """What is under way between one client and the agent."""

    def __init__(self, producer: str | None, options: ClientOptions, epoch: int = 0) -> None:
        if epoch and producer is None:
            raise ValueError(f"an epoch needs a producer name epoch={epoch}")
        if not 0 <= epoch <= MAX_ID:
            raise ValueError(f"an epoch is 0 to 2**63 - 1 epoch={epoch}")
        self._producer = producer
        self._epoch = epoch
        self._on_ack = options.on_ack
        self.outbox = Outbox(options.max_unacknowledged_bytes, options.max_unacknowledged_records)
        self._decoder = decode_agent(ReceiveBuffer())
        self._requests: dict[int, Request] = {}
        self._unsent_requests: deque[Request] = deque()
        self._resumes: deque[int] = deque()
        self._next_request = 1
        self._ever_greeted = False
        self.is_ready = False
        """Whether the agent has greeted on this connection."""
        self.progress = False
        """Whether the agent has answered anything else on this connection."""
        self.end_reason = ""
        """What the agent said as it ended the last connection."""

    # -- a connection's life ---------------------------------------------------------------

    def begin(self) -> bytes:
        """A connection was made: what to send first."""
        self._decoder = decode_agent(ReceiveBuffer())
        self.is_ready = False
        self.progress = False
        options = pack(HelloOptions(producer=self._producer, epoch=self._epoch))
        return encode(Hello(VERSION, Raw(options)))

    def lost(self) -> None:
        """The connection is gone."""
        self.is_ready = False
        self.outbox.lost()
        self._resumes.clear()
        self._unsent_requests = deque(
            request for request in self._requests.values() if request.carried_stream is None
        )
        for request in list(self._requests.values()):
            if request.carried_stream is not None:
                del self._requests[request.number]

    # -- asking ----------------------------------------------------------------------------

    def flush(self, stream: str | None) -> Request:
        """Ask that the store have everything appended so far (to `stream`)."""
        return self._ask(Flush(self._next_request, stream))

    def status(self) -> Request:
        """Ask for the agent's status."""
        return self._ask(Status(self._next_request))

    def _ask(self, message: Flush | Status) -> Request:
        request = Request(self._next_request, message, self.outbox.next_id - 1)
        self._next_request += 1
        self._requests[request.number] = request
        self._unsent_requests.append(request)
        return request

    def forget(self, request: Request) -> None:
        """Nobody waits for it any more."""
        self._requests.pop(request.number, None)
        if request in self._unsent_requests:
            self._unsent_requests.remove(request)

    # -- sending ---------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be sent or waited for."""
        return self.outbox.is_done and not self._requests

    def next_output(self, *, only_closed: bool = False) -> list[bytes]:
        """Pieces of the next frames to send; none: nothing (yet).

        With `only_closed` a run that can still be added to is left.
        """
        pieces: list[bytes] = []
        if not (self.outbox.has_unsent or self._unsent_requests or self._resumes):
            return pieces
        nbytes = 0
        while self.is_ready and nbytes < _OUTPUT_BYTES:
            frame = self._next_frame(only_closed)
            if frame is None:
                break
            pieces += frame
            nbytes += sum(map(len, frame))
        # Many small pieces cost more to send than to copy.
        return [b"".join(pieces)] if len(pieces) > _MANY_PIECES else pieces

    def _next_frame(self, only_closed: bool) -> list[bytes] | None:
        if self._resumes:
            return [encode(Resume(self._resumes.popleft()))]
        requests = self._unsent_requests
        if not requests:
            return self.outbox.take_frame(only_closed=only_closed)
        if requests[0].after_id < self.outbox.first_unsent_id:
            return [encode(requests.popleft().message)]
        return self.outbox.take_frame()

    # -- receiving -------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take a copy of what came from the agent. Raises as `received`."""
        self._decoder.buffer.feed(data)
        self._take()

    def room(self) -> memoryview:
        """Where to receive to; never empty."""
        return self._decoder.buffer.room()

    def received(self, nbytes: int) -> None:
        """Take `nbytes` that were received into what `room` gave.

        Raises `ConnectionEnded`, or a `ClientError` when no other connection would help.
        """
        self._decoder.buffer.received(nbytes)
        self._take()

    def _take(self) -> None:
        decoder = self._decoder
        try:
            while (message := decoder.next()) is not None:
                decoder.consume()
                self._handle(message)
            decoder.buffer.prepare()
        except ProtocolError as error:
            raise AgentRefused(
                error.code, f"agent does not speak this protocol: {error.message}"
            ) from error

    def _handle(self, message: AgentMessage) -> None:
        if isinstance(message, Error):
            self._on_error(message)
            return
        if isinstance(message, Welcome):
            self._on_welcome(message)
            return
        self.progress = True
        if isinstance(message, Ack):
            self.outbox.acknowledged(message.id)
            if self._on_ack is not None:
                self._on_ack(message.id, message.positions)
        elif isinstance(message, Stored):
            self.outbox.stored(message.id)
        elif isinstance(message, Flushed):
            self._answered(message.request)
        elif isinstance(message, StatusAnswer):
            self._answered(message.request, result=message.status)

    def _on_welcome(self, welcome: Welcome) -> None:
        outbox = self.outbox
        limits = welcome.limits
        if welcome.version != VERSION:
            raise AgentRefused(ErrorCode.BAD_VERSION, f"agent speaks version={welcome.version}")
        if not self._ever_greeted:
            # Ids that this name has used before would be taken for resends.
            outbox.next_id = limits.last_id + 1
        elif limits.last_id >= outbox.next_id:
            raise Superseded(
                f"another client has used this name producer={self._producer} "
                f"last_id={limits.last_id}"
            )
        if self._epoch and FEATURE_EPOCH not in limits.features:
            raise AgentRefused(
                ErrorCode.UNSUPPORTED,
                f"agent does not know this feature feature={FEATURE_EPOCH}",
            )
        outbox.greeted(limits.max_record_bytes, limits.features, limits.max_multi_streams)
        self._ever_greeted = True
        self.is_ready = True
        for stream in sorted(outbox.carried_streams()):
            self.flush(stream).carried_stream = stream

    def _on_error(self, error: Error) -> None:
        code, message, id = error.code, error.message, error.id
        if code == ErrorCode.SUPERSEDED:
            raise Superseded(message)
        if code == ErrorCode.FENCED:
            raise Fenced(message)
        if code in RETRY:
            self.end_reason = f"{message} code={code}"
            raise ConnectionEnded(self.end_reason)
        if code in FATAL:
            raise AgentRefused(code, message)
        self.progress = True
        if code == ErrorCode.UNKNOWN_STREAM:
            self._answered(id, error=RequestRefused(code, message))
            return
        refused = Refused.UNKNOWN
        if id is not None:
            refused = self.outbox.refused(code, id, message, error.positions)
        if refused is Refused.UNKNOWN:
            raise AgentRefused(code, message)
        if refused is Refused.HOLDS:
            assert id is not None
            self._resume(id)

    def _resume(self, id: int) -> None:
        """The agent has discarded whatever was sent behind append `id`: begin again there."""
        self._resumes.append(id)
        self._unsent_requests = deque(
            request
            for request in self._requests.values()
            if request.after_id >= id or request in self._unsent_requests
        )

    def _answered(
        self,
        number: int | None,
        *,
        result: dict[str, Any] | None = None,
        error: ClientError | None = None,
    ) -> None:
        request = self._requests.pop(number, None) if number is not None else None
        if request is None:
            return
        if request.carried_stream is not None:
            # A stream that the agent does not know any more has nothing left to store.
            self.outbox.flushed(request.carried_stream, request.after_id)
        request.result = result or {}
        request.error = error
        request.done = True
