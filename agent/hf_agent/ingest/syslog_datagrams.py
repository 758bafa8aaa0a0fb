"""A datagram socket of protocol `syslog`, such as `/dev/log`: one message each, nothing out.

Nobody is answered. While the sink takes nothing, nothing is read, and senders wait as soon as the
kernel's short queue is full. What was read and is not durable when the agent dies is lost, and so
is what the queue held.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Final

import structlog

from hf_agent.ingest.admission import not_allowed
from hf_agent.ingest.append_errors import ErrorCode
from hf_agent.ingest.credentials import NOBODY, PASSED_BYTES, Credentials, passed_credentials
from hf_agent.ingest.durable_acks import DurableAcks
from hf_agent.ingest.endpoint import Endpoint
from hf_agent.ingest.rejections import REASONS
from hf_agent.ingest.sink import Receipt, Rejected
from hf_agent.ingest.syslog.framing import Messages, Part
from hf_agent.ingest.syslog.settings import SyslogSettings
from hf_agent.ingest.syslog.sorter import Outgoing
from hf_agent.ingest.syslog_writer import SyslogWriter

__all__ = ["SyslogDatagrams"]

_log = structlog.get_logger(__name__)

_DATAGRAMS_A_TURN: Final = 256
_BYTES_A_TURN: Final = 256 << 10


class SyslogDatagrams:
    """Reads a bound socket: `start`, then `stop`, then `drained` or `close`."""

    protocol: Final = "syslog"

    def __init__(self, bound: socket.socket, endpoint: Endpoint, settings: SyslogSettings) -> None:
        self._socket = bound
        self._endpoint = endpoint
        self._sink = endpoint.sink
        self._writer = SyslogWriter(endpoint, settings)
        self._largest = settings.max_message_bytes
        self._asks_who = settings.credentials or not endpoint.admission.is_open
        self._acks = DurableAcks(endpoint.clock)
        self._traffic = endpoint.metrics.traffic[self.protocol]
        self._loop = asyncio.get_running_loop()
        self._peeked = bytearray(1)
        self._waits = False
        self._stopping = False
        self._emptied = False
        self._done = asyncio.Event()

    def start(self) -> None:
        """Take what comes."""
        self._loop.add_reader(self._socket.fileno(), self._read)

    def stop(self) -> None:
        """Let nobody send any more; what the queue holds is still taken. Idempotent."""
        if self._stopping or self._socket.fileno() < 0:
            return
        self._stopping = True
        # From here on, senders get EPIPE: nothing can come between the last read and the close.
        self._socket.shutdown(socket.SHUT_RD)
        if not self._waits:
            self._loop.remove_reader(self._socket.fileno())
            self._read()

    async def drained(self) -> None:
        """After `stop`: return when all that was sent is durable, or was refused."""
        await self._done.wait()

    def close(self) -> None:
        """Close, whatever is left. Idempotent."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        if self._writer:
            _log.warning(
                "socket closed with messages that the log did not take: they are lost",
                socket=str(self._endpoint.config.path),
                records=self._writer.records,
            )
            self._count_rejected(ErrorCode.SHUTTING_DOWN, self._writer.records)

    def _read(self) -> None:
        if self._socket.fileno() < 0:
            return
        while not self._waits:
            received, is_empty = self._receive()
            for sender, messages in received:
                self._add(messages, sender)
            if received:
                self._write()
            if is_empty and self._stopping and not self._waits:
                self._finish()
            if is_empty or not self._stopping:
                return

    def _receive(self) -> tuple[list[tuple[Credentials, list[bytes]]], bool]:
        """Datagrams in the queue, as many as go in one turn, and whether these were all.

        Those that one sender sent without another's in between are together. Nobody asks who it
        is where that changes nothing.
        """
        receive, peek, peeked = self._socket.recv, self._socket.recv_into, self._peeked
        receive_with, asks_who = self._socket.recvmsg, self._asks_who
        flags = socket.MSG_PEEK | socket.MSG_TRUNC
        received: list[tuple[Credentials, list[bytes]]] = []
        sender = NOBODY
        nbytes = 0
        for _ in range(_DATAGRAMS_A_TURN):
            if nbytes >= _BYTES_A_TURN:
                break
            try:
                # Its size first: a datagram is cut to the buffer that it is received into.
                size = peek(peeked, 1, flags)
                if asks_who:
                    message, ancillary, _, _ = receive_with(max(size, 1), PASSED_BYTES)
                    sender = passed_credentials(ancillary)
                else:
                    message = receive(max(size, 1))
            except (BlockingIOError, InterruptedError):
                return received, True
            except OSError as error:
                if error.errno != errno.ENOBUFS and error.errno != errno.ENOMEM:
                    raise
                return received, False
            if not size and self._stopping:
                return received, True
            message = message.rstrip(b"\n\0")
            if not message:
                continue
            nbytes += size
            if asks_who and not self._endpoint.admission.allows(sender):
                self._refuse(sender)
            elif received and received[-1][0] == sender:
                received[-1][1].append(message)
            else:
                received.append((sender, [message]))
        return received, False

    def _refuse(self, sender: Credentials) -> None:
        self._endpoint.metrics.rejected_records.labels(self.protocol, "not_allowed").inc()
        if times := self._endpoint.log_limit.due(ErrorCode.NOT_ALLOWED):
            _log.warning(
                "message refused: it is lost",
                socket=str(self._endpoint.config.path),
                code=str(ErrorCode.NOT_ALLOWED),
                reason=not_allowed(sender),
                times=times,
            )

    def _add(self, messages: list[bytes], sender: Credentials) -> None:
        largest = self._largest
        if max(map(len, messages)) <= largest:
            self._writer.add(Messages(messages), sender)
            return
        for message in messages:
            if len(message) <= largest:
                self._writer.add(Messages([message]), sender)
                continue
            for number, at in enumerate(range(0, len(message), largest), 1):
                part = message[at : at + largest]
                self._writer.add(Part(part, number, more=at + largest < len(message)), sender)

    def _write(self) -> None:
        while self._writer:
            try:
                if self._writer.write(self._count):
                    return
            except Rejected as error:
                code = ErrorCode(error.code)
                if code is not ErrorCode.WAL_FULL:
                    self._drop(code, error.message)
                    continue
                # With `when_full = "reject"` as well: there is nobody who could be told.
            self._wait()
            return

    def _drop(self, code: ErrorCode, message: str) -> None:
        records = self._writer.drop()
        self._count_rejected(code, records)
        if times := self._endpoint.log_limit.due(code):
            _log.warning(
                "messages refused: they are lost",
                socket=str(self._endpoint.config.path),
                code=str(code),
                reason=message,
                times=times,
            )

    def _wait(self) -> None:
        self._waits = True
        if not self._stopping:
            self._loop.remove_reader(self._socket.fileno())
        self._sink.notify_room(self._on_room)

    def _on_room(self) -> None:
        self._waits = False
        if self._socket.fileno() < 0:
            return
        self._write()
        if self._waits:
            return
        if self._stopping:
            self._read()
        else:
            self._loop.add_reader(self._socket.fileno(), self._read)

    def _count(self, outgoing: Outgoing, receipt: Receipt) -> None:
        self._traffic.received_records += outgoing.records
        self._traffic.received_bytes += outgoing.nbytes
        batch = receipt.batch
        if self._acks.taken(batch, 1, outgoing.stream, receipt.position, outgoing.records):
            self._sink.notify_durable(batch, lambda: self._on_durable(batch))

    def _on_durable(self, batch: int) -> None:
        acknowledged = self._acks.durable(batch)
        if acknowledged is not None:
            self._traffic.acked_records += acknowledged.records
            for seconds in acknowledged.durations:
                self._endpoint.metrics.append_duration.observe(seconds)
        self._finish_if_durable()

    def _finish(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._emptied = True
        self._finish_if_durable()

    def _finish_if_durable(self) -> None:
        if self._stopping and self._emptied and not self._acks and not self._writer:
            self._done.set()

    def _count_rejected(self, code: ErrorCode, records: int) -> None:
        reason = REASONS.get(code, "incomplete")
        rejected = self._endpoint.metrics.rejected_records
        rejected.labels(self.protocol, reason).inc(records)
