"""Index entries of sealed files are kept within a bound, and no longer than their file."""

from __future__ import annotations

import tracemalloc
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from hf_agent.wal import Wal
from hf_agent.wal.index import Directory, Entries
from hf_agent.wal.index_cache import IndexCache
from hf_agent.wal.log_file import SealedFile
from support.wal_disk import MemoryDisk
from support.wal_tools import SMALL, open_wal, read_all, sequences, settle


def sealed(sequence: int) -> SealedFile:
    return SealedFile(Path(f"{sequence}.wal"), sequence, 0, 0, Directory(), 0, 0)


def entries(records: int) -> Entries:
    return Entries(array("I", range(records)), array("I", range(1, records + 1)))


def written(wal: Wal, rounds: int) -> None:
    for _ in range(rounds):
        for name in "abcd":
            wal.append(name, b"12345678" * 8)
        settle(wal)


@pytest.mark.parametrize("records", [1, 3, 20, 200])
def test_what_it_says_that_it_takes_is_what_it_takes(records: int) -> None:
    cache = IndexCache(1 << 20)
    tracemalloc.start()
    try:
        for sequence in range(1, 200):
            file = sealed(sequence)
            for number in range(1, 20):
                cache.add(file, number, entries(records))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Not more than it says, in any case; and not so much less that the bound would mean nothing.
    assert cache.nbytes / 2 < taken < 1.05 * cache.nbytes
    assert cache.nbytes <= 1 << 20


def test_the_least_recently_used_ones_go_first() -> None:
    file = sealed(1)
    cache = IndexCache(1500)  # two of them
    cache.add(file, 1, entries(1))
    cache.add(file, 2, entries(2))
    assert cache.get(file, 1) is not None
    cache.add(file, 3, entries(3))
    assert [number for number in (1, 2, 3) if cache.get(file, number)] == [1, 3]


def test_those_of_one_stream_are_kept_however_many_they_are() -> None:
    cache = IndexCache(2000)
    cache.add(sealed(1), 1, entries(1))
    cache.add(sealed(2), 1, entries(1000))
    assert len(cache) == 1
    assert cache.get(sealed(2), 1) is not None


def test_what_is_kept_of_a_file_goes_with_it() -> None:
    first, second = sealed(1), sealed(2)
    cache = IndexCache(1 << 20)
    for number in range(3):
        cache.add(first, number, entries(number + 1))
    cache.add(second, 1, entries(1))
    alone = IndexCache(1 << 20)
    alone.add(second, 1, entries(1))
    cache.forget(first)
    assert len(cache) == 1
    assert cache.nbytes == alone.nbytes


def test_nothing_is_taken_of_a_file_that_has_gone_meanwhile() -> None:
    file = sealed(1)
    cache = IndexCache(1 << 20)
    cache.forget(file)
    cache.add(file, 1, entries(1))
    assert len(cache) == 0


def test_a_log_that_frees_its_files_keeps_nothing_of_them() -> None:
    wal = open_wal(MemoryDisk(), replace(SMALL, index_cache_bytes=1 << 20))
    cache = wal._files.index_cache
    written(wal, 300)
    assert len(sequences(wal)) > 3
    for name in "abcd":
        assert len(read_all(wal, name, 1 << 20)) == 300 * 64
    assert len(cache) > 0
    for name in "abcd":
        view = wal.stream(name)
        assert view is not None
        wal.commit(name, view.durable)
    settle(wal)
    assert len(sequences(wal)) == 1
    assert len(cache) == 0
    assert cache.nbytes == 0


def test_a_log_keeps_its_bound_and_reads_on() -> None:
    wal = open_wal(MemoryDisk(), replace(SMALL, index_cache_bytes=2000))
    written(wal, 300)
    for name in "abcd":
        assert len(read_all(wal, name, 1 << 20)) == 300 * 64
    assert wal._files.index_cache.nbytes <= 2000
