"""What the intake knows of producers: epochs and ids, in the log, across restarts and files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_agent.ingest.sink import Mark, Rejected
from hf_agent.metrics import Metrics
from hf_agent.streams.intake import Intake
from hf_agent.streams.producer_marks import known_of, producer_mark
from hf_agent.wal import Wal
from support.manual_clock import ManualClock
from support.wal_disk import MemoryDisk
from support.wal_tools import SMALL, fill_file, open_wal, read_all, settle

numbers = st.integers(0, (1 << 63) - 1)


def intake(wal: Wal) -> Intake:
    return Intake(
        wal, clock=ManualClock(), metrics=Metrics(), flush_bytes=1 << 20, when_full="block"
    )


@given(numbers, numbers, numbers, numbers)
def test_a_mark_orders_by_epoch_then_id(epoch: int, id: int, epoch2: int, id2: int) -> None:
    mark, mark2 = Mark("p", id, epoch), Mark("p", id2, epoch2)
    assert known_of("p", producer_mark(mark)) == mark
    assert (producer_mark(mark) < producer_mark(mark2)) == ((epoch, id) < (epoch2, id2))


def test_what_a_producer_without_epochs_left_in_a_log_is_epoch_0() -> None:
    assert producer_mark(Mark("p", 41)) == 41
    assert known_of("p", 41) == Mark("p", 41, 0)
    assert known_of("p", 0) == Mark("p", 0, 0)


async def test_an_epoch_outlives_restarts_and_files_and_shuts_lower_ones_out() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    sink = intake(wal)
    sink.append("s", b"x", records=1, mark=Mark("p", 900))
    batch = sink.raise_mark(Mark("p", 0, 3))
    assert sink.known("p") == Mark("p", 0, 3)
    settle(wal)
    assert wal.durable_batch >= batch
    for number in range(3):
        wal.close()
        wal = open_wal(disk)
        assert intake(wal).known("p") == Mark("p", 0, 3), number
        fill_file(wal)
    sink = intake(wal)
    sink.append("s", b"y", records=1, mark=Mark("p", 1, 3))
    assert sink.known("p") == Mark("p", 1, 3)
    settle(wal)


async def test_a_mark_that_is_durable_is_not_waited_for_behind_what_is_not() -> None:
    wal = open_wal(MemoryDisk())
    sink = intake(wal)
    batch = sink.raise_mark(Mark("p", 0, 3))
    assert sink.raise_mark(Mark("p", 0, 3)) == batch > wal.durable_batch
    settle(wal)
    sink.batch_durable(wal.durable_batch)
    sink.append("s", b"x", records=1, mark=None)
    assert sink.raise_mark(Mark("p", 0, 3)) <= wal.durable_batch
    assert sink.raise_mark(Mark("p", 5, 2)) <= wal.durable_batch
    assert sink.known("p") == Mark("p", 0, 3)


async def test_several_streams_are_taken_together_and_known_to_the_intake() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    sink = intake(wal)
    receipts = sink.append_all([("a", b"12"), ("b", b"345")], mark=Mark("p", 1, 1))
    assert [receipt.position for receipt in receipts] == [2, 3]
    assert len({receipt.batch for receipt in receipts}) == 1
    assert (sink.position("a"), sink.position("b"), sink.position("c")) == (2, 3, 0)
    assert {state.name for state in sink.unflushed()} == {"a", "b"}
    settle(wal)
    wal.close()
    wal = open_wal(disk)
    assert (read_all(wal, "a"), read_all(wal, "b")) == (b"12", b"345")
    assert intake(wal).position("b") == 3


async def test_several_streams_are_refused_together() -> None:
    wal = open_wal(MemoryDisk())
    sink = intake(wal)
    with pytest.raises(Rejected) as caught:
        sink.append_all([("a", b"1"), ("b", bytes(SMALL.max_record_bytes))], mark=Mark("p", 1))
    assert (caught.value.code, caught.value.permanent) == ("record_too_large", True)
    assert not sink.states
    assert sink.known("p").id == 0
    wal.close()
    with pytest.raises(Rejected, match="closed") as caught:
        sink.append_all([("a", b"1")], mark=None)
    assert caught.value.code == "wal_failed"
    with pytest.raises(Rejected, match="closed"):
        sink.raise_mark(Mark("p", 1, 1))
