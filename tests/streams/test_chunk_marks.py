"""Chunks that the intake knows again: in the log, across restarts, for as long as configured."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hf_agent.ingest.sink import WHOLE_CHUNK
from hf_agent.metrics import Metrics
from hf_agent.streams.chunk_marks import chunk_mark, progress_of
from hf_agent.streams.intake import Intake
from hf_agent.wal import Wal
from support.manual_clock import ManualClock
from support.wal_disk import MemoryDisk
from support.wal_tools import SMALL, fill_file, open_wal, settle

KEY, OTHER = bytes(range(16)), bytes(16)


def test_a_mark_holds_progress_and_time() -> None:
    mark = chunk_mark(0, 7, 1000.9)
    assert mark < 1 << 63
    assert progress_of(mark, 1000.0, 60) == 7
    assert progress_of(mark, 1060.0, 60) == 7
    assert progress_of(mark, 1061.0, 60) == 0
    assert progress_of(0, 1000.0, 60) == 0
    assert progress_of(chunk_mark(0, WHOLE_CHUNK, 1000.0), 1000.0, 60) == WHOLE_CHUNK


def test_a_mark_rises_with_progress_although_the_clock_goes_back() -> None:
    first = chunk_mark(0, 7, 1000.0)
    second = chunk_mark(first, 9, 10.0)
    assert second > first
    assert progress_of(second, 10.0, 60) == 9
    assert chunk_mark(second, WHOLE_CHUNK, 5.0) > second


def test_a_chunk_that_was_forgotten_begins_anew() -> None:
    whole = chunk_mark(0, WHOLE_CHUNK, 1000.0)
    again = chunk_mark(whole, 1, 2000.0)
    assert again > whole
    assert progress_of(again, 2000.0, 60) == 1


def intake(wal: Wal, clock: ManualClock) -> Intake:
    return Intake(
        wal,
        clock=clock,
        metrics=Metrics(),
        flush_bytes=1 << 20,
        when_full="block",
        max_chunk_age=60,
    )


async def test_progress_travels_with_the_events_through_restarts_and_files() -> None:
    disk, clock = MemoryDisk(), ManualClock()
    wal = open_wal(disk, clock=clock)
    sink = intake(wal, clock)
    assert sink.chunk_progress(KEY) == 0
    sink.append("s", b"one", records=3, mark=None, chunks={KEY: 3})
    assert sink.chunk_progress(KEY) == 3, "before it is durable, too"
    sink.append("s", b"two", records=2, mark=None, chunks={KEY: WHOLE_CHUNK, OTHER: WHOLE_CHUNK})
    await asyncio.sleep(0)
    settle(wal)
    fill_file(wal)
    wal.close()
    clock.now += 59
    again = intake(open_wal(disk, clock=clock), clock)
    assert again.chunk_progress(KEY) == again.chunk_progress(OTHER) == WHOLE_CHUNK
    clock.now += 2
    assert again.chunk_progress(KEY) == 0


async def test_what_was_not_durable_is_not_known_after_a_crash() -> None:
    disk, clock = MemoryDisk(), ManualClock()
    wal = open_wal(disk, clock=clock)
    sink = intake(wal, clock)
    sink.append("s", b"one", records=1, mark=None, chunks={KEY: WHOLE_CHUNK})
    disk.process_death()
    again = open_wal(disk, clock=clock)
    assert intake(again, clock).chunk_progress(KEY) == 0
    assert again.stream("s") is None


async def test_the_oldest_chunks_are_forgotten_first_and_producers_never_for_them() -> None:
    disk, clock = MemoryDisk(), ManualClock()
    config = replace(SMALL, max_binary_marks=3)
    wal = open_wal(disk, config, clock=clock)
    sink = intake(wal, clock)
    wal.append("s", b"x", marks=[("producer", 5)])
    keys = [bytes([number]) * 16 for number in range(5)]
    for key in keys:
        sink.append("s", b"x", records=1, mark=None, chunks={key: WHOLE_CHUNK})
    assert [sink.chunk_progress(key) for key in keys] == [0, 0, *[WHOLE_CHUNK] * 3]
    assert sink.known("producer").id == 5
