"""Appends, notes and marks: what is accepted, what is refused, what survives a reopening."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from hf_agent.wal import RecordTooLarge, TooManyStreams, Wal, WalError, WalStateError
from support.wal_disk import MemoryDisk, PowerLoss
from support.wal_tools import SMALL, fill_file, open_wal, read_all, sequences, settle


def test_positions_count_bytes_from_zero_for_each_stream() -> None:
    wal = open_wal(MemoryDisk())
    assert wal.append("a", b"12345").position == 5
    assert wal.append("b", b"x").position == 1
    assert wal.append("a", memoryview(b"678")).position == 8


def test_appends_gather_in_one_batch_until_it_is_taken() -> None:
    wal = open_wal(MemoryDisk())
    batches = {wal.append("s", b"x").batch for _ in range(50)}
    assert batches == {wal.batch}
    assert wal.durable_batch == 0
    settle(wal)
    assert batches == {wal.durable_batch}
    assert wal.append("s", b"x").batch == wal.batch == wal.durable_batch + 1


def test_many_small_appends_of_a_batch_become_one_record() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    for number in range(100):
        wal.append("s", b"%d," % number)
    settle(wal)
    wal.close()
    again = open_wal(disk)
    assert again.recovery.records == 1
    assert read_all(again, "s") == b"".join(b"%d," % number for number in range(100))


def test_a_batch_is_closed_when_it_would_grow_over_its_limit() -> None:
    wal = open_wal(MemoryDisk())
    first = wal.append("s", bytes(3000)).batch
    assert wal.append("s", bytes(3000)).batch == first + 1
    assert wal.append("s", bytes(SMALL.max_record_bytes)).batch == first + 2
    assert wal.append("s", b"x").batch == first + 3


def test_pending_bytes_bound_what_is_accepted() -> None:
    wal = open_wal(MemoryDisk())
    while wal.accepts():
        wal.append("s", bytes(1000))
    assert SMALL.max_pending_bytes <= wal.pending_bytes < SMALL.max_pending_bytes + 1200
    settle(wal)
    assert wal.pending_bytes == 0
    assert wal.accepts()


def test_an_append_over_the_limit_is_refused_and_leaves_nothing() -> None:
    wal = open_wal(MemoryDisk())
    wal.append("s", b"before")
    for name in ("s", "new"):
        with pytest.raises(RecordTooLarge, match="append is too large bytes=8193 limit=8192"):
            wal.append(name, bytes(8193))
    assert wal.append("s", b"after").position == 11
    assert wal.stream("new") is None


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_a_stream_needs_a_name_within_the_limit(name: str) -> None:
    wal = open_wal(MemoryDisk())
    with pytest.raises(RecordTooLarge):
        wal.append(name, b"x")


def test_a_note_and_a_mark_have_limits_too() -> None:
    wal = open_wal(MemoryDisk())
    with pytest.raises(RecordTooLarge, match="note is too large"):
        wal.note("s", bytes(SMALL.max_note_bytes + 1))
    with pytest.raises(RecordTooLarge, match="mark is too large"):
        wal.append("s", b"x", marks=[("k" * 256, 1)])


def test_streams_are_bounded_and_known_ones_go_on() -> None:
    wal = open_wal(MemoryDisk(), replace(SMALL, max_streams=3))
    for name in "abc":
        wal.append(name, b"x")
    with pytest.raises(TooManyStreams, match="max_streams=3 stream=d"):
        wal.append("d", b"x")
    with pytest.raises(TooManyStreams):
        wal.note("d", b"x")
    assert wal.append("a", b"y").position == 2


def test_an_empty_append_is_as_durable_as_what_came_before() -> None:
    wal = open_wal(MemoryDisk())
    wal.append("s", b"x")
    settle(wal)
    assert wal.append("s", b"") == (wal.durable_batch, 1)
    assert wal.pending_bytes == 0
    pending = wal.append("s", b"y").batch
    assert wal.append("s", b"").batch == pending


def test_an_empty_append_can_name_a_stream_and_carry_a_mark() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    taken = wal.append("s", b"", marks=[("k", 5)])
    settle(wal)
    assert wal.durable_batch == taken.batch
    wal.close()
    again = open_wal(disk)
    assert again.last_mark("k") == 5
    view = again.stream("s")
    assert view is not None
    assert view.position == 0
    assert again.append("s", b"x").position == 1


def test_marks_only_rise() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.append("s", b"x", marks=[("k", 9)])
    wal.append("s", b"y", marks=[("k", 4)])
    assert wal.last_mark("k") == 9
    assert wal.last_mark("other") == 0
    settle(wal)
    wal.close()
    assert open_wal(disk).last_mark("k") == 9


def test_of_too_many_marks_the_one_raised_longest_ago_is_forgotten() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, replace(SMALL, max_marks=3))
    for key in ("a", "b", "c", "a", "d"):
        wal.append("s", b"x", marks=[(key, wal.last_mark(key) + 1)])
        settle(wal)
    expected = {"a": 2, "b": 0, "c": 1, "d": 1}
    assert {key: wal.last_mark(key) for key in "abcd"} == expected
    wal.close()
    again = open_wal(disk, replace(SMALL, max_marks=3))
    assert {key: again.last_mark(key) for key in "abcd"} == expected


def test_marks_of_text_and_of_binary_keys_do_not_forget_each_other() -> None:
    disk = MemoryDisk()
    config = replace(SMALL, max_marks=2, max_binary_marks=3)
    wal = open_wal(disk, config)
    wal.append("s", b"x", marks=[("a", 1)])
    for number in range(5):
        wal.append("s", b"x", marks=[(b"%d" % number, 7)])
    wal.append("s", b"x", marks=[("0", 8)])
    settle(wal)
    fill_file(wal)

    def kept(wal: Wal) -> tuple[list[int], list[int]]:
        binary = [wal.last_mark(b"%d" % number) for number in range(5)]
        return binary, [wal.last_mark("a"), wal.last_mark("0")]

    assert kept(wal) == ([0, 0, 7, 7, 7], [1, 8])
    wal.close()
    assert kept(open_wal(disk, config)) == ([0, 0, 7, 7, 7], [1, 8])


def test_the_latest_note_wins_and_survives_files_and_reopening() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.append("s", b"x", marks=[("k", 3)])
    for text in (b"one", b"two", b"three"):
        batch = wal.note("s", text)
    settle(wal)
    assert wal.durable_batch == batch
    fill_file(wal)
    for name in ("s", "filler"):
        view = wal.stream(name)
        assert view is not None
        wal.commit(name, view.durable)
    settle(wal)
    assert sequences(wal) == [2]
    wal.close()
    again = open_wal(disk)
    view = again.stream("s")
    assert view is not None
    assert (view.note, view.position, view.committed, view.first) == (b"three", 1, 1, 1)
    assert again.last_mark("k") == 3


def test_the_id_is_for_life() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, seed=5)
    wal.close()
    assert open_wal(disk, seed=6).id == wal.id
    assert len(wal.id) == 16
    assert open_wal(MemoryDisk(), seed=6).id != wal.id


def test_closing_writes_what_is_pending_and_refuses_more() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.append("s", b"pending")
    wal.close()
    wal.close()
    assert wal.state.kind == "closed"
    assert not wal.accepts()
    with pytest.raises(WalStateError, match="closed"):
        wal.append("s", b"x")
    with pytest.raises(WalStateError, match="closed"):
        wal.note("s", b"x")
    assert read_all(open_wal(disk), "s") == b"pending"


def test_commits_never_go_back_and_never_ahead_of_what_is_durable() -> None:
    wal = open_wal(MemoryDisk())
    wal.append("s", b"12345")
    with pytest.raises(WalError, match="not durable stream=s position=5 durable=0"):
        wal.commit("s", 5)
    settle(wal)
    wal.commit("s", 4)
    wal.commit("s", 2)
    view = wal.stream("s")
    assert view is not None
    assert view.committed == 4
    with pytest.raises(WalError, match="no such stream"):
        wal.commit("nobody", 0)


def test_limits_that_do_not_fit_each_other_are_refused() -> None:
    for change in (
        {"file_bytes": 1000},
        {"file_bytes": 4 << 30, "max_bytes": 16 << 30},
        {"max_bytes": 40 << 10},
        {"max_record_bytes": 9 << 10},
        {"max_streams": 0},
        {"max_marks": -1},
    ):
        name = next(iter(change))
        with pytest.raises(ValueError, match=f"{name}="):
            replace(SMALL, **change)


def test_more_streams_than_a_file_could_hold_the_snapshot_of_make_the_files_larger() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, replace(SMALL, max_streams=2000, max_bytes=2 << 20))
    for number in range(1000):
        wal.append(f"stream-with-a-long-name-{number}", b"x")
        if number % 10 == 9:
            settle(wal)
    fill_file(wal)
    sizes = [len(inode.data) for name, inode in disk.names.items() if name.endswith(".wal")]
    assert max(sizes) > SMALL.file_bytes
    wal.close()
    again = open_wal(disk, replace(SMALL, max_streams=2000, max_bytes=2 << 20))
    assert len(list(again.streams())) == 1001
    assert read_all(again, "stream-with-a-long-name-999") == b"x"


def test_appends_to_several_streams_share_a_batch_even_where_it_must_be_a_new_one() -> None:
    wal = open_wal(MemoryDisk())
    before = wal.append("a", bytes(3500)).batch
    taken = wal.append_all([("a", bytes(300)), ("b", b"xy"), ("c", bytes(400))])
    assert {appended.batch for appended in taken} == {before + 1}
    assert [appended.position for appended in taken] == [3800, 2, 400]


def test_an_append_to_several_streams_that_is_refused_leaves_nothing_of_any() -> None:
    wal = open_wal(MemoryDisk(), replace(SMALL, max_streams=3))
    wal.append("a", b"x")
    wal.append("b", b"x")
    batch = wal.batch
    with pytest.raises(TooManyStreams, match="stream=d"):
        wal.append_all([("a", b"y"), ("c", b"y"), ("d", b"y")], marks=[("k", 1)])
    with pytest.raises(RecordTooLarge, match="append is too large bytes=8193 limit=8192"):
        wal.append_all([("a", bytes(8000)), ("b", bytes(193))], marks=[("k", 1)])
    with pytest.raises(RecordTooLarge, match="mark is too large"):
        wal.append_all([("a", b"y"), ("b", b"y")], marks=[("k" * 256, 1)])
    with pytest.raises(RecordTooLarge, match="a stream needs a name"):
        wal.append_all([("a", b"y"), ("", b"y")])
    assert [view.position for view in wal.streams()] == [1, 1]
    assert wal.last_mark("k") == 0
    assert wal.batch == batch


def test_an_append_to_more_streams_than_a_batch_has_room_for_is_refused() -> None:
    wal = open_wal(MemoryDisk())
    with pytest.raises(RecordTooLarge, match="sum of names and records is too large"):
        wal.append_all([(f"{number}" * 50, b"x") for number in range(20)])
    assert not list(wal.streams())


def test_appends_of_nothing_to_several_streams_are_as_durable_as_what_came_before() -> None:
    wal = open_wal(MemoryDisk())
    wal.append("a", b"x")
    settle(wal)
    assert wal.append_all([("a", b"")]) == [(wal.durable_batch, 1)]


@pytest.mark.parametrize("value", [5, (1 << 63) - 1, 1 << 63, (1 << 63) + 7, (1 << 126) - 1])
def test_a_mark_alone_is_durable_and_carried_into_the_next_file(value: int) -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    batch = wal.mark([("k", value)])
    settle(wal)
    assert wal.durable_batch == batch
    wal.close()
    wal = open_wal(disk)
    assert wal.last_mark("k") == value, "from its own record"
    fill_file(wal)
    wal.close()
    wal = open_wal(disk)
    assert wal.last_mark("k") == value, "from the snapshot of a later file"
    assert wal.mark([("k", value - 1)]) == wal.durable_batch, "it never goes back"
    assert wal.last_mark("k") == value


@pytest.mark.parametrize("dies_at", range(1, 40))
def test_wherever_the_machine_stops_several_streams_have_all_of_an_append_or_nothing(
    dies_at: int,
) -> None:
    for seed in range(8):
        rng = random.Random(seed)
        disk = MemoryDisk()
        wal = open_wal(disk)
        wal.append("a", b"first")
        settle(wal)
        disk.dies_at = disk.operations + dies_at
        taken = acknowledged = 0
        try:
            for number in range(1, 30):
                pieces = [(name, name.encode() * 700) for name in "abc"]
                wal.append_all(pieces, marks=[("p", number)])
                taken = number
                settle(wal)
                acknowledged = number
        except PowerLoss:
            pass
        disk.power_loss(rng)
        wal = open_wal(disk)
        kept = wal.last_mark("p")
        assert acknowledged <= kept <= taken, f"seed={seed}"
        lengths = {view.name: view.position for view in wal.streams()}
        expected = {"a": 5 + 700 * kept, "b": 700 * kept, "c": 700 * kept}
        assert lengths == {name: n for name, n in expected.items() if n}, f"seed={seed}"
        wal.close()
