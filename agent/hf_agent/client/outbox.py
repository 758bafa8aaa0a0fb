"""What a client has been given and the agent has not acknowledged, in order, ready to be resent.

Appends to the same stream in a row share a run, which is sent as one frame. A run that was sent
is closed: it goes out again exactly as it was. Memory is bounded by who calls `append`, with
`has_room`.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from hf_agent.client.errors import AgentRefused, AppendRefused, PositionMismatch
from hf_agent.ingest.append_errors import ErrorCode
from hf_agent.ingest.append_messages import ACK_STORE, ACK_WAL, FEATURE_EXPECT, FEATURE_MULTI, Part
from hf_agent.ingest.append_protocol import append_frame, batch_frame, multi_frame

__all__ = ["Outbox", "Refused"]

_RUN_BYTES = 128 << 10
_RUN_RECORDS = 4096
_WORTH_SENDING = 64 << 10
_REFUSALS_KEPT = 1024
_COPY_UP_TO = 4 << 10


class _Run:
    __slots__ = ("ack", "expect", "first_id", "multi", "nbytes", "owed", "parts", "stream")

    def __init__(self, first_id: int, stream: str, ack: str) -> None:
        self.first_id = first_id
        self.stream = stream
        self.ack = ack
        self.parts: list[bytes] = []
        self.nbytes = 0
        self.expect: int | None = None
        self.multi: list[Part] = []
        """Of one append to several streams: its parts, whose bytes are the one of `parts`."""
        self.owed: set[str] | None = None
        """Streams of which a lost connection owes word that the store has them."""

    @property
    def streams(self) -> set[str]:
        return {part.stream for part in self.multi} if self.multi else {self.stream}

    @property
    def is_conditional(self) -> bool:
        return self.expect is not None or any(
            part.expect_position is not None for part in self.multi
        )

    @property
    def last_id(self) -> int:
        return self.first_id + len(self.parts) - 1

    def frame(self) -> list[bytes]:
        """The frame's bytes in pieces; a large payload is not copied."""
        parts = self.parts
        if len(parts) == 1:
            if self.multi:
                head, tail = multi_frame(self.first_id, self.multi, self.nbytes, self.ack)
            else:
                head, tail = append_frame(
                    self.first_id, self.stream, self.nbytes, self.ack, self.expect
                )
            if self.nbytes > _COPY_UP_TO:
                return [head, parts[0], tail]
            return [b"".join((head, parts[0], tail))]
        lengths = list(map(len, parts))
        head, tail = batch_frame(self.first_id, self.stream, lengths, self.nbytes, self.ack)
        return [b"".join((head, *parts, tail))]


class Refused(Enum):
    """What a refusal by the agent means for the rest."""

    UNKNOWN = auto()
    """There is no such run."""
    ALONE = auto()
    HOLDS = auto()
    """The agent takes nothing more before it is told to resume."""


class Outbox:
    """Runs in the order of their ids: sent ones first, then unsent ones."""

    def __init__(self, max_bytes: int, max_records: int) -> None:
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._run_bytes = _RUN_BYTES
        self._max_record_bytes = _RUN_BYTES
        self._features: tuple[str, ...] = ()
        self._max_multi_streams = 0
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

    def append_alone(
        self, stream: str, data: bytes, ack: str, *, expect: int | None, multi: list[Part]
    ) -> int:
        """Queue one append that is conditional or to several streams, as a run of its own.

        As `append` otherwise. Raises `AgentRefused` (`unsupported`) too.
        """
        nbytes = len(data)
        if not self.has_room(nbytes):
            return 0
        if len(multi) > self._max_multi_streams and FEATURE_MULTI in self._features:
            raise ValueError(
                f"too many streams in one append streams={len(multi)} "
                f"limit={self._max_multi_streams}"
            )
        probe = _Run(0, stream, ack)
        probe.expect, probe.multi = expect, multi
        self._check_features(probe)
        run = self._begin_run(stream, nbytes, ack)
        run.expect, run.multi = expect, multi
        run.parts.append(data)
        run.nbytes = nbytes
        self._open = None
        self._closed_bytes += nbytes
        self.unacknowledged_bytes += nbytes
        self.unacknowledged_records += 1
        self.next_id += 1
        return run.first_id

    def _check_features(self, run: _Run) -> None:
        for needed, feature in ((run.is_conditional, FEATURE_EXPECT), (run.multi, FEATURE_MULTI)):
            if needed and feature not in self._features:
                raise AgentRefused(
                    "unsupported", f"agent does not know this feature feature={feature}"
                )

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

    def greeted(
        self, max_record_bytes: int, features: tuple[str, ...] = (), max_multi_streams: int = 0
    ) -> None:
        """A connection begins. An agent with a lower limit than before gets smaller runs.

        Raises `AgentRefused` when it does not know what is to be sent.
        """
        self._features = features
        self._max_multi_streams = max_multi_streams
        for run in self._unsent:
            self._check_features(run)
        self._max_record_bytes = max_record_bytes
        self._run_bytes = min(_RUN_BYTES, max_record_bytes)
        if not any(run.nbytes > max_record_bytes for run in self._unsent):
            return
        runs, self._unsent, self._open = self._unsent, deque(), None
        for run in runs:
            if run.nbytes <= max_record_bytes:
                self._unsent.append(run)
            else:
                self._split(run, max_record_bytes)
        for run in runs:
            if run.nbytes > max_record_bytes and run.is_conditional:
                self._give_up_behind(run)
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
            run.owed = run.owed or run.streams

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
        self._storing = deque(run for run in self._storing if run.owed or run.last_id > id)

    def carried_streams(self) -> set[str]:
        """Streams of which a lost connection owes word that the store has them."""
        return {stream for run in self._storing for stream in run.owed or ()}

    def flushed(self, stream: str, up_to: int) -> None:
        """The store has all of `stream` that was acknowledged before `up_to` was given."""
        left: deque[_Run] = deque()
        for run in self._storing:
            if run.owed and run.last_id <= up_to:
                run.owed.discard(stream)
                if not run.owed:
                    continue
            left.append(run)
        self._storing = left

    def refused(
        self, code: str, id: int, message: str, positions: dict[str, int] | None = None
    ) -> Refused:
        """The agent refused the run that begins with `id`.

        Behind a conditional one the agent has taken nothing: that is to be sent again, but for
        what may build on the refused one, which is refused as well.
        """
        place = next((n for n, run in enumerate(self._sent) if run.first_id == id), None)
        if place is None:
            return Refused.UNKNOWN
        run = self._sent[place]
        del self._sent[place]
        self._drop(run.parts, code, id, message, positions)
        if not run.is_conditional:
            return Refused.ALONE
        while len(self._sent) > place:
            self._unsent.appendleft(self._sent.pop())
        self._give_up_behind(run)
        self._closed_bytes = sum(run.nbytes for run in self._unsent if run is not self._open)
        return Refused.HOLDS

    def _give_up_behind(self, refused: _Run) -> None:
        runs, self._unsent = self._unsent, deque()
        for run in runs:
            behind = run.first_id > refused.first_id
            if behind and run.is_conditional and run.streams & refused.streams:
                text = f"an append that it may build on was refused, id={refused.first_id}"
                self._drop(run.parts, ErrorCode.POSITION_MISMATCH, run.first_id, text)
            else:
                self._unsent.append(run)

    def _drop(
        self,
        parts: list[bytes],
        code: str,
        id: int,
        message: str,
        positions: dict[str, int] | None = None,
    ) -> None:
        self.unacknowledged_records -= len(parts)
        self.unacknowledged_bytes -= sum(map(len, parts))
        last_id = id + len(parts) - 1
        if code == ErrorCode.POSITION_MISMATCH:
            refusal: AppendRefused = PositionMismatch(id, last_id, message, positions or {})
        else:
            refusal = AppendRefused(code, id, last_id, message)
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
