"""Engines that people run read a container while the agent appends to it.

Each of them sees one checkpoint: whole appends, from the first one on, without a gap.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import dask
import dask.bag
import duckdb
import fsspec
import pandas as pd
import pyarrow.csv
import pyarrow.fs
import pytest

from hf_agent.client import Client, fresh_producer
from hf_agent.fs import HyperfileFileSystem
from support.agent_process import AgentProcess

HEADER = b"number,square\n"


def row(number: int) -> bytes:
    return b"%d,%d\n" % (number, number * number)


class GrowingTable:
    """An agent that is sent one row after the other for as long as the test lasts."""

    def __init__(self, folder: Path) -> None:
        self.agent = AgentProcess(folder, flush='interval = "20ms"\nblock_size = "4KiB"').start()
        self.url = f"hyperfile::{self.agent.store_url}/node-1/table"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._append)
        self.fs = HyperfileFileSystem(fo=self.agent.store_url, target_protocol="file")
        with Client(self.agent.append_socket, producer=fresh_producer()) as client:
            client.append("table", HEADER + b"".join(map(row, range(20_000))))
            client.wait_acknowledged()
            client.flush("table")
        self._thread.start()

    def _append(self) -> None:
        number = 20_000
        with Client(self.agent.append_socket, producer=fresh_producer()) as client:
            while not self._stop.is_set():
                client.append("table", row(number))
                client.wait_acknowledged()
                number += 1

    def wait_until_grown(self) -> None:
        """Return when there is a newer checkpoint than now."""
        before = self.fs.info("node-1/table")["checkpoint"]
        while self.fs.info("node-1/table")["checkpoint"] == before:
            pass

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.agent.close()
        self.fs.close()
        HyperfileFileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrowingTable]:
    growing = GrowingTable(tmp_path_factory.mktemp("table"))
    yield growing
    growing.close()


def check(numbers: list[int], squares: list[int]) -> None:
    assert len(numbers) >= 20_000
    assert numbers == list(range(len(numbers)))
    assert squares == [number * number for number in numbers]


def test_pandas_reads_csv(table: GrowingTable) -> None:
    first = pd.read_csv(table.url)
    check(first["number"].tolist(), first["square"].tolist())
    table.wait_until_grown()
    second = pd.read_csv(table.url)
    check(second["number"].tolist(), second["square"].tolist())
    assert len(second) > len(first)


def test_pyarrow_reads_csv(table: GrowingTable) -> None:
    arrow = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(table.fs))
    with arrow.open_input_stream("node-1/table") as stream:
        found = pyarrow.csv.read_csv(stream)
    check(found["number"].to_pylist(), found["square"].to_pylist())
    info = arrow.get_file_info("node-1/table")
    assert info.size >= 20_000


def test_duckdb_reads_csv(table: GrowingTable) -> None:
    # DuckDB asks the file system for the size of a file that it has open.
    pinned = HyperfileFileSystem(fo=table.agent.store_url, target_protocol="file", pin=True)
    connection = duckdb.connect()
    connection.register_filesystem(pinned)
    found = connection.execute(
        "select number, square from read_csv('hyperfile://node-1/table') order by number"
    ).fetchall()
    check([number for number, _ in found], [square for _, square in found])
    connection.close()
    pinned.close()


def test_dask_reads_text_in_parallel_blocks(table: GrowingTable) -> None:
    bag = dask.bag.read_text(table.url, blocksize=20_000)  # type: ignore[no-untyped-call]
    assert bag.npartitions > 10
    table.wait_until_grown()  # the blocks were cut before that
    with dask.config.set(scheduler="threads"):
        lines = bag.compute()
    assert lines[0].encode() == HEADER
    numbers, squares = zip(*(map(int, line.split(",")) for line in lines[1:]), strict=True)
    check(list(numbers), list(squares))


def test_many_ranges_of_one_call_are_of_one_checkpoint(table: GrowingTable) -> None:
    size = table.fs.size("node-1/table")
    parts = table.fs.cat_ranges(
        ["node-1/table"] * 50,
        [size * index // 50 for index in range(50)],
        [size * (index + 1) // 50 for index in range(50)],
        on_error="raise",
    )
    assert b"".join(parts).startswith(HEADER + row(0))
    with fsspec.open(table.url, "rb") as file:
        assert file.read().startswith(b"".join(parts))
