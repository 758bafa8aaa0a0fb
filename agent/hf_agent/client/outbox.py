"""What a client has been given and the agent has not acknowledged, in order, ready to be resent.

Appends to the same stream in a row share a run, which is sent as one frame. A run that was sent
is closed: it goes out again exactly as it was. Memory is bounded by who calls `append`, with
`has_room`.
"""

from __future__ import annotations

from collections import deque

from hf_agent.client.errors import AppendRefused
from hf_agent.ingest.append_messages import ACK_STORE, ACK_WAL
from hf_agent.ingest.append_protocol import append_frame, batch_frame

__all__ = ["Outbox"]

_RUN_BYTES = 128 << 10
_RUN_RECORDS = 4096
_WORTH_SENDING = 64 << 10
_REFUSALS_KEPT = 1024
_COPY_UP_TO = 4 << 10


class _Run:
    __slots__ = ("ack", "carried", "first_id", "nbytes", "parts", "stream")

    def __init__(self, first_id: int, stream: str, ack: str) -> None:
        self.first_id = first_id
        self.stream = stream
        self.ack = ack
        self.parts: list[bytes] = []
        self.nbytes = 0
        self.carried = False

    @property
    def last_id(self) -> int:
        return self.first_id + len(self.parts) - 1

    def frame(self) -> list[bytes]:
        """The frame's bytes in pieces; a large payload is not copied."""
        parts = self.parts
        if len(parts) == 1:
            head, tail = append_frame(self.first_id, self.stream, self.nbytes, self.ack)
            if self.nbytes > _COPY_UP_TO:
                return [head, parts[0], tail]
            return [b"".join((head, parts[0], tail))]
        lengths = list(map(len, parts))
        head, tail = batch_frame(self.first_id, self.stream, lengths, self.nbytes, self.ack)
        return [b"".join((head, *parts, tail))]


class Outbox:
    """Runs in the order of their ids: sent ones first, then unsent ones."""

    def __init__(self, max_bytes: int, max_records: int) -> None:
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._run_bytes = _RUN_BYTES
        self._max_record_bytes = _RUN_BYTES
        self._sent: deque[_Run] = deque()
        self._unsent: deque[_Run] = deque()
        self._open: _Run | None = None
        self._closed_bytes = 0
        self._storing: deque[_Run] = deque()
        self._refused: deque[AppendRefused] = deque(maxlen=_REFUSALS_KEPT)
        self.unreported: deque[AppendRefused] = deque()
        """Refusals that nobody has been told of."""
        self.begun = 0
        """Runs begun so far; when it changes, there may be something to send."""
        self.next_id = 1
        self.unacknowledged_bytes = 0
        self.unacknowledged_records = 0

    # -- appending -------------------------------------------------------------------------

    def has_room(self, nbytes: int) -> bool:
        """Whether `nbytes` more may be under way. One append always may, whatever its size."""
        records = self.unacknowledged_records
        return not records or (
            records < self._max_records and self.unacknowledged_bytes + nbytes <= self._max_bytes
        )

    def append(self, stream: str, data: bytes, ack: str) -> int:
        """Queue one append; returns its id, or 0 when there is no room for it.

        Raises `AppendRefused` (`record_too_large`), `ValueError`.
        """
        nbytes = len(data)
        unacknowledged = self.unacknowledged_bytes + nbytes
        records = self.unacknowledged_records
        if records and (records >= self._max_records or unacknowledged > self._max_bytes):
            return 0
        run = self._open
        if run is not None and run.stream == stream and run.ack == ack:
            filled = run.nbytes + nbytes
            if filled > self._run_bytes or len(run.parts) >= _RUN_RECORDS:
                run = self._begin_run(stream, nbytes, ack)
                filled = nbytes
        else:
            run = self._begin_run(stream, nbytes, ack)
            filled = nbytes
        run.parts.append(data)
        run.nbytes = filled
        self.unacknowledged_bytes = unacknowledged
        self.unacknowledged_records = records + 1
        id = self.next_id
        self.next_id = id + 1
        return id

    def _begin_run(self, stream: str, nbytes: int, ack: str) -> _Run:
        if ack not in (ACK_WAL, ACK_STORE):
            raise ValueError(f"no such acknowledgement ack={ack!r} known='wal store'")
        if nbytes > self._max_record_bytes:
            raise AppendRefused(
                "record_too_large",
                self.next_id,
                self.next_id,
                f"record is over the agent's limit bytes={nbytes} limit={self._max_record_bytes}",
            )
        if self._open is not None:
            self._closed_bytes += self._open.nbytes
        run = self._open = _Run(self.next_id, stream, ack)
        self._unsent.append(run)
        self.begun += 1
        return run

    # -- sending ---------------------------------------------------------------------------

    @property
    def is_in_flight(self) -> bool:
        """Whether something was sent that was not acknowledged."""
        return bool(self._sent)

    @property
    def has_unsent(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._unsent)

    @property
    def has_much_unsent(self) -> bool:
        """Whether so much waits in closed runs that it is worth sending."""
        return self._closed_bytes >= _WORTH_SENDING

    @property
    def first_unsent_id(self) -> int:
        """The lowest id that was not sent; the next id when all were."""
        return self._unsent[0].first_id if self._unsent else self.next_id

    def take_frame(self, *, only_closed: bool = False) -> list[bytes] | None:
        """The next run as a frame, which counts as sent now; None: all were.

        With `only_closed` a run that can still be added to is left.
        """
        if not self._unsent or (only_closed and self._unsent[0] is self._open):
            return None
        run = self._unsent.popleft()
        if run is self._open:
            self._open = None
        else:
            self._closed_bytes -= run.nbytes
        self._sent.append(run)
        return run.frame()

    def greeted(self, max_record_bytes: int) -> None:
        """A connection begins. An agent with a lower limit than before gets smaller runs."""
        self._max_record_bytes = max_record_bytes
        self._run_bytes = min(_RUN_BYTES, max_record_bytes)
        if not any(run.nbytes > max_record_bytes for run in self._unsent):
            return
        runs, self._unsent, self._open = self._unsent, deque(), None
        for run in runs:
            self._split(run, max_record_bytes)
        self._closed_bytes = sum(run.nbytes for run in self._unsent)

    def _split(self, run: _Run, limit: int) -> None:
        piece = _Run(run.first_id, run.stream, run.ack)
        for id, part in enumerate(run.parts, run.first_id):
            if len(part) > limit:
                self._drop([part], "record_too_large", id, f"record is over limit={limit}")
                if piece.parts:
                    self._unsent.append(piece)
                piece = _Run(id + 1, run.stream, run.ack)
                continue
            if piece.nbytes + len(part) > limit:
                self._unsent.append(piece)
                piece = _Run(id, run.stream, run.ack)
            piece.parts.append(part)
            piece.nbytes += len(part)
        if piece.parts:
            self._unsent.append(piece)

    def lost(self) -> None:
        """The connection is gone: everything unacknowledged is to be sent again."""
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        self._open = None
        self._closed_bytes = sum(run.nbytes for run in self._unsent)
        for run in self._storing:
            run.carried = True

    # -- answers ---------------------------------------------------------------------------

    def acknowledged(self, id: int) -> None:
        """Everything up to `id` is durable."""
        sent = self._sent
        while sent and sent[0].last_id <= id:
            run = sent.popleft()
            self._forget(run)
            if run.ack == ACK_STORE:
                # Only what it is is of interest from here on, not what it held.
                run.nbytes = 0
                self._storing.append(run)

    def stored(self, id: int) -> None:
        """Everything up to `id` that asked on this connection is in the store."""
        self._storing = deque(run for run in self._storing if run.carried or run.last_id > id)

    def carried_streams(self) -> set[str]:
        """Streams of which a lost connection owes word that the store has them."""
        return {run.stream for run in self._storing if run.carried}

    def flushed(self, stream: str, up_to: int) -> None:
        """The store has all of `stream` that was acknowledged before `up_to` was given."""
        self._storing = deque(
            run
            for run in self._storing
            if not (run.carried and run.stream == stream and run.last_id <= up_to)
        )

    def refused(self, code: str, id: int, message: str) -> bool:
        """The agent refused the run that begins with `id`. False: there is none."""
        for place, run in enumerate(self._sent):
            if run.first_id == id:
                del self._sent[place]
                self._drop(run.parts, code, id, message)
                return True
        return False

    def _drop(self, parts: list[bytes], code: str, id: int, message: str) -> None:
        self.unacknowledged_records -= len(parts)
        self.unacknowledged_bytes -= sum(map(len, parts))
        refusal = AppendRefused(code, id, id + len(parts) - 1, message)
        self._refused.append(refusal)
        self.unreported.append(refusal)

    def _forget(self, run: _Run) -> None:
        self.unacknowledged_records -= len(run.parts)
        self.unacknowledged_bytes -= run.nbytes

    # -- asking ----------------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether every append has the answer that it asked for."""
        return not (self._sent or self._unsent or self._storing)

    def is_answered(self, id: int) -> bool:
        """Whether append `id` has the answer that it asked for."""
        for queue in (self._sent, self._unsent):
            if queue:
                if id < queue[0].first_id:
                    break
                if any(run.first_id <= id <= run.last_id for run in queue):
                    return False
        return not any(run.first_id <= id <= run.last_id for run in self._storing)

    def refusal_of(self, id: int) -> AppendRefused | None:
        """Why append `id` was refused, if it was; counts as reported."""
        for refusal in self._refused:
            if refusal.id <= id <= refusal.last_id:
                if refusal in self.unreported:
                    self.unreported.remove(refusal)
                return refusal
        return None

    def next_refusal(self) -> AppendRefused | None:
        """The first refusal that nobody has been told of; counts as reported."""
        return self.unreported.popleft() if self.unreported else None
