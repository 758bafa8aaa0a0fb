"""A connection of protocol `lines` whose lines become something else: JSON, or joined records.

Lines leave the receive buffer when all that was made of them is appended, or waits in an open group
of the assembly. Whatever ends a connection, or the agent in order, ends the open groups first: what
was taken is appended, and only then is anything acknowledged or refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain
from typing import Final

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.credentials import NOBODY, peer_credentials
from hf_agent.ingest.endpoint import Endpoint
from hf_agent.ingest.lines.parser import Lines, StreamNamed
from hf_agent.ingest.lines.record import Append, Moment
from hf_agent.ingest.lines.settings import LinesSettings
from hf_agent.ingest.lines_connection import LinesConnection
from hf_agent.ingest.receive_buffer import ReceiveBuffer
from hf_agent.ingest.received_and_work import ReceivedAndWork
from hf_agent.ingest.sink import Rejected

__all__ = ["AssembledLinesConnection"]

_PIECE_BYTES: Final = 64 << 10
"""Lines that are worked on at a time; what is made of them takes a few times as much memory."""


_LONGEST_NAP: Final = 10.0
"""Seconds: a wake-up cannot be called off, and keeps a connection in memory that is gone."""


class AssembledLinesConnection(LinesConnection):
    """Takes lines piece by piece, and appends what the assembly makes of them."""

    def __init__(self, endpoint: Endpoint, settings: LinesSettings) -> None:
        super().__init__(endpoint)
        self._holding = ReceivedAndWork(self._share)
        self._buffer = ReceiveBuffer(self._holding)
        self._parser.buffer = self._buffer
        self._settings = settings
        self._assembly = settings.assembly(NOBODY)
        self._received = Moment(0.0, 0.0)
        self._due: Iterator[Append] | None = None
        """What was made and is not appended yet."""
        self._next: Append | None = None
        self._consumes = False
        """Whether lines leave the buffer when nothing is due any more."""
        self._broken: ProtocolError | None = None
        """What ends the connection when everything before it is appended."""
        self._watched = False
        """Whether a wake-up is to come."""

    # -- asyncio ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = peer_credentials(transport.get_extra_info("socket"))
        self._assembly = self._settings.assembly(peer)
        super().connection_made(transport)

    def buffer_updated(self, nbytes: int) -> None:
        self._received = self._now()
        super().buffer_updated(nbytes)

    def _now(self) -> Moment:
        clock = self._endpoint.clock
        return Moment(clock.monotonic(), clock.time())

    # -- taking ----------------------------------------------------------------------------

    def _take(self) -> None:
        while not self._waits and not self._ending:
            if self._due is not None:
                self._append_due()
            elif self._broken is not None:
                raise self._broken
            elif not (self._expire() or self._take_piece() or self._drain_groups()):
                break
        self._watch_groups()

    def _take_rest(self) -> None:
        while not self._waits and not self._ending:
            if self._due is not None:
                self._append_due()
            elif self._broken is not None:
                self.fail(self._broken.code, self._broken.message)
            elif (rest := self._parser.rest()) is not None:
                self._feed(rest)
            elif self._assembly.held:
                self._make_due(self._assembly.flush("end", self._now()))
            else:
                self._count_incomplete()
                return

    def _take_piece(self) -> bool:
        """Take some lines, or the stream's name. False: there is nothing whole."""
        try:
            event = self._parser.next()
        except ProtocolError as error:
            # What came before it is kept, also what waits for more.
            self._broken = error
            self._make_due(self._assembly.flush("end", self._now()))
            return True
        if isinstance(event, StreamNamed):
            self._stream = event.stream
            self._parser.consume()
        elif event is not None:
            self._feed(self._parser.shorten(event, _PIECE_BYTES))
        return event is not None

    def _feed(self, lines: Lines) -> None:
        if not self._sink.accepts():
            self._wait_for_room()
            return
        self._make_due(self._assembly.feed(bytes(lines.data), self._received), consumes=True)

    def _expire(self) -> bool:
        """End groups that have waited long enough. False: there are none."""
        deadline = self._assembly.deadline
        if deadline is None:
            return False
        now = self._now()
        if now.monotonic < deadline:
            return False
        self._make_due(self._assembly.expire(now))
        return True

    def _drain_groups(self) -> bool:
        """The agent stops: end what waits. False: nothing does."""
        if not (self._draining and self._assembly.held) or self._eof:
            return False
        self._make_due(self._assembly.flush("end", self._now()))
        return True

    def _make_due(self, appends: Iterator[Append], *, consumes: bool = False) -> None:
        """Have `appends` appended; `consumes`: the lines that they are made of stand in the buffer.

        Memory for open groups that is not to be had is not needed: they end where they are.
        """
        held = self._assembly.held
        if held > self._holding.work and not self._share.resize(self._buffer.capacity + held):
            appends = chain(appends, self._assembly.flush("memory", self._received))
            held = self._assembly.held
        self._holding.work = held
        self._share.resize(self._buffer.capacity + held)
        self._due = appends
        self._consumes = consumes

    # -- appending -------------------------------------------------------------------------

    def _append_due(self) -> None:
        """Append the next of what is due, or wait until that is possible."""
        if not self._sink.accepts():
            self._wait_for_room()
            return
        assert self._due is not None
        try:
            append = next(self._due, None)
        except ProtocolError as error:
            self._broken = error
            append = None
        if append is not None:
            self._append_made(append)
            return
        self._due = None
        if self._consumes:
            self._consumes = False
            self._parser.consume()

    def _append_made(self, append: Append) -> bool:
        """Append it. False: it was refused, and the connection ends."""
        try:
            receipt = self._sink.append(
                self._stream, append.data, records=append.records, mark=None
            )
        except Rejected as error:
            self._due = None
            code = ErrorCode(error.code)
            # `fail` counts one of the records itself.
            self._count_rejected(code, append.records - 1)
            super().fail(code, error.message)
            return False
        self._taken(receipt, 1, self._stream, append.records, len(append.data))
        return True

    # -- groups that wait ------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Bytes in open groups."""
        return self._assembly.held

    def _watch_groups(self) -> None:
        """See to it that open groups are looked at in time."""
        deadline = self._assembly.deadline
        if deadline is None or self._watched or self._ending or self._eof:
            return
        self._watched = True
        seconds = deadline - self._endpoint.clock.monotonic()
        self._endpoint.wakeups.after(min(max(seconds, 0.0), _LONGEST_NAP), self._look)

    def _look(self) -> None:
        self._watched = False
        # What is waited for looks after the groups as soon as it is there.
        if not (self._waits or self._ending):
            self._advance()

    # -- memory ----------------------------------------------------------------------------

    def _needed(self) -> int:
        return super()._needed() + self._holding.work

    # -- the end ---------------------------------------------------------------------------

    def fail(self, code: ErrorCode, message: str, id: int | None = None) -> None:
        if not self._ending and code is not ErrorCode.WAL_FAILED:
            self._append_what_waits()
        super().fail(code, message, id)

    def _append_what_waits(self) -> None:
        """Before the connection ends: keep what was taken, unless something before it is lost."""
        due: Iterator[Append] = iter(()) if self._due is None else self._due
        if self._broken is None:
            due = chain(due, self._assembly.flush("end", self._now()))
        self._due = None
        try:
            for append in due:
                if not self._append_made(append):
                    return
        except ProtocolError as error:
            self._count_rejected(error.code)

    def end(self) -> None:
        self._let_go()
        super().end()

    def abort(self) -> None:
        self._let_go()
        super().abort()

    def _let_go(self) -> None:
        self._due = None
        self._holding.work = 0
