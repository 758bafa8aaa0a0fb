"""The state that the provable records add up to, and what is missing from them.

Where it is known how much is missing, zero bytes can stand for it, and all positions keep their
meaning: what the store has is then still found by them. Where a stream's end or its note may be
missing, its note is handed to the caller to be mended. Only where positions say nothing any more,
the stream has to be bound to its container anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from hf_agent.wal.batch import unpack_commits
from hf_agent.wal.record import COMMIT, DATA, FILL, MARKS, NOTE, SNAPSHOT, STREAM, TYPE_NAMES
from hf_agent.wal.repair.report import Damage, Loss
from hf_agent.wal.repair.sources import LogFiles
from hf_agent.wal.repair.walk import (
    Aside,
    BadPayload,
    Event,
    Good,
    Harmless,
    Torn,
    Unreadable,
)
from hf_agent.wal.snapshot import unpack_marks, unpack_snapshot
from hf_agent.wal.state import Marks

__all__ = ["MendNote", "Salvage", "SalvagedStream", "salvage"]

MendNote: TypeAlias = Callable[[bytes, int, int], bytes]
"""From the last note that is known, the stream's end in the log, and the end that it may have had
(higher where bytes were lost there), to the note with which it goes on."""

_MAX_MARKS = 1 << 20
_MAX_GAP_BYTES = 256 << 20
"""A larger gap is not filled with zeros: the disk may not have the room."""


@dataclass(slots=True)
class SalvagedStream:
    """What is known of one stream of the damaged log."""

    number: int
    name: str = ""
    """Empty while no good record tells it."""
    nameless: bool = False
    """Whether none ever did."""
    first: int | None = None
    """Position of the first byte that was seen, or told of."""
    end: int = 0
    """Position up to which it was followed."""
    committed: int = 0
    note: bytes = b""
    note_lost: bool = False
    noted: int = -1
    """How many unreadable places had been met when its note was known last."""
    gaps: list[tuple[int, int]] = field(default_factory=list)
    lost_end: int = 0
    """End of a record behind `end` whose header is all that is left."""
    seen: int = 0
    """How many bytes of streams may have been lost before it was last heard of, at most."""

    def reach(self, start: int, end: int) -> None:
        """Good bytes, or good word of them, from `start` to `end`."""
        if self.first is None:
            self.first = self.end = start
        if start > self.end:
            self.gaps.append((self.end, start))
        self.end = max(self.end, end)

    @property
    def last(self) -> int:
        """Position behind everything that is known to have been there."""
        return max(self.end, self.committed, self.lost_end)


@dataclass(slots=True)
class Salvage:
    """All streams by their number, the marks, and every damaged place."""

    streams: dict[int, SalvagedStream] = field(default_factory=dict)
    marks: Marks = field(default_factory=lambda: Marks(_MAX_MARKS, _MAX_MARKS))
    damages: list[Damage] = field(default_factory=list)
    marks_incomplete: bool = False
    torn: Torn | None = None
    based: bool = False
    """Whether a snapshot was read, on which what came later builds."""
    unreadable: int = 0
    """Places in which anything may have stood, so far."""
    most: int = 0
    """How many bytes of streams may have been lost in them, at most."""

    def losses(self) -> list[Loss]:
        """The streams that are not complete."""
        return [loss for stream in self.streams.values() if (loss := self._loss(stream))]

    def is_rebound(self, stream: SalvagedStream) -> bool:
        """Whether its positions have lost their sense."""
        loss = self._loss(stream)
        return loss is not None and loss.rebound

    def mended_note(self, stream: SalvagedStream, mend: MendNote) -> bytes:
        """The note with which the stream goes on; empty when it has to be bound anew."""
        loss = self._loss(stream)
        if loss and loss.rebound:
            return b""
        lost_more = self.most - stream.seen
        if lost_more or stream.note_lost or stream.noted < self.unreadable:
            return mend(stream.note, stream.last, stream.last + lost_more)
        return stream.note

    def _loss(self, stream: SalvagedStream) -> Loss | None:
        gaps = [(max(a, stream.committed), b) for a, b in stream.gaps if b > stream.committed]
        if stream.first is not None and stream.first > stream.committed:
            gaps.insert(0, (stream.committed, stream.first))
        reached = max(stream.end, stream.committed)
        if stream.lost_end > reached:
            gaps.append((reached, stream.lost_end))
        end_unknown = self.most - stream.seen
        if not (gaps or end_unknown or stream.note_lost or stream.nameless):
            return None
        large = any(end - start > _MAX_GAP_BYTES for start, end in gaps)
        return Loss(
            stream.name,
            tuple(gaps),
            stream.last,
            end_unknown,
            stream.note_lost,
            rebound=stream.nameless or large,
            kept_from=stream.committed,
        )

    # -- one event after the other ---------------------------------------------------------

    def take(self, event: Event) -> None:
        """Add what `event` says."""
        match event:
            case Good():
                self._good(event)
            case BadPayload():
                self._bad_payload(event)
            case Unreadable():
                self._unreadable(event.most)
                self._damage(event.path.name, event.offset, event.length, event.reason)
            case Harmless():
                self._damage(event.path.name, event.offset, event.length, event.reason)
            case Aside():
                self._damage(event.path.name, 0, 0, event.reason)
            case Torn():
                self.torn = event

    def _damage(self, file: str, offset: int, length: int, reason: str) -> Damage:
        damage = Damage(file, offset, length, reason)
        self.damages.append(damage)
        return damage

    def _unreadable(self, most: int) -> None:
        self.unreadable += 1
        self.most += most
        self.marks_incomplete = True

    def _good(self, event: Good) -> None:
        found, scanner = event.found, event.scanner
        header = found.header
        if header.type == DATA:
            stream = self._stream(header.stream)
            stream.reach(header.position, header.position + header.length)
            stream.seen = self.most
            return
        try:
            self._apply(header.type, header.stream, scanner.payload(found))
        except (TypeError, ValueError) as error:
            self._damage(scanner.path.name, found.offset, header.total, f"unreadable: {error}")
            self._unreadable(header.length)

    def _apply(self, kind: int, number: int, payload: bytes) -> None:
        if kind == SNAPSHOT:
            self._snapshot(payload)
        elif kind == STREAM:
            stream = self._stream(number)
            stream.name = payload.decode()
            stream.noted = self.unreadable
            stream.reach(0, 0)
        elif kind == NOTE:
            stream = self._stream(number)
            stream.note, stream.note_lost, stream.noted = payload, False, self.unreadable
        elif kind == MARKS:
            for key, value in unpack_marks(payload).items():
                self.marks.move(key, value)
        elif kind == COMMIT:
            for each, position in unpack_commits(payload):
                stream = self._stream(each)
                stream.committed = max(stream.committed, position)
        else:
            raise ValueError(f"record type {kind}")

    def _snapshot(self, payload: bytes) -> None:
        state = unpack_snapshot(payload, Marks(_MAX_MARKS, _MAX_MARKS))
        for number, known in state.streams.items():
            stream = self._stream(number)
            stream.name = known.name
            stream.note, stream.note_lost = known.durable_note, False
            stream.noted = self.unreadable
            stream.committed = max(stream.committed, known.committed)
            stream.reach(known.durable, known.durable)
            stream.seen = self.most
        for key, value in state.marks.items():
            self.marks.move(key, value)
        self.marks_incomplete, self.based = False, True

    def _bad_payload(self, event: BadPayload) -> None:
        header = event.found.header
        kind = TYPE_NAMES.get(header.type, f"type {header.type}")
        damage = self._damage(
            event.path.name,
            event.found.offset,
            header.total,
            f"checksum mismatch in a {kind} record",
        )
        if header.type == DATA:
            stream = self._stream(header.stream)
            stream.lost_end = max(stream.lost_end, header.position + header.length)
            stream.seen = self.most
            damage.stream, damage.position = stream.name, header.position
            if header.flags & FILL:
                damage.reason += ", of zeros for bytes that were lost before"
        elif header.type == NOTE:
            self._stream(header.stream).note_lost = True
        elif header.type == MARKS:
            self.marks_incomplete = True
        elif header.type == SNAPSHOT and not self.based:
            self._unreadable(0)  # otherwise it would have told what is known already

    def _stream(self, number: int) -> SalvagedStream:
        stream = self.streams.get(number)
        if stream is None:
            # Nothing tells how many of its bytes came before: `reach` takes its first as told.
            stream = self.streams[number] = SalvagedStream(number)
        return stream


def salvage(files: LogFiles) -> Salvage:
    """Read the whole log. Memory: some for each stream, mark and damaged place, not for records."""
    result = Salvage()
    for event in files.events():
        result.take(event)
    if not result.damages and result.losses():
        # The names of the files that are there have no gap, and still bytes are missing.
        result.damages.append(Damage(files.oldest.name, 0, 0, "a file before this one is missing"))
    _name_the_nameless(result)
    return result


def _name_the_nameless(result: Salvage) -> None:
    taken = {stream.name for stream in result.streams.values()}
    for stream in result.streams.values():
        if not stream.name:
            stream.name = f"recovered/stream-{stream.number}"
            while stream.name in taken:
                stream.name += "-"
            taken.add(stream.name)
            stream.nameless = True
