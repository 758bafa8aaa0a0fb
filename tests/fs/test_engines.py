"""Engines that people run read a container while the agent appends to it.

Each of them sees one checkpoint: whole appends, from the first one on, without a gap, and exactly
as many as a checkpoint of the container's history holds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from support.moto_s3 import CREDENTIALS, MotoS3, moto_s3

__all__ = ["moto_s3"]

HEADER = b"number,square\n"
FIRST_ROWS = 20_000
GROUP = 7
S3_OPTIONS = {
    "key": CREDENTIALS["AWS_ACCESS_KEY_ID"],
    "secret": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    "client_kwargs": {"region_name": "us-east-1"},
    "config_kwargs": {"s3": {"addressing_style": "path"}},
}


def row(number: int) -> bytes:
    return b"%d,%d\n" % (number, number * number)


class GrowingTable:
    """An agent that is sent rows for as long as the test lasts, `GROUP` of them in each append."""

    def __init__(
        self, folder: Path, *, store_url: str = "", s3: dict[str, str] | None = None
    ) -> None:
        self.agent = AgentProcess(
            folder,
            store_url=store_url or None,
            s3=s3,
            flush='interval = "20ms"\nblock_size = "4KiB"',
        ).start()
        self.path = "node-1/table"
        self.url = f"hyperfile::{self.agent.store_url}/{self.path}"
        self.options: dict[str, Any] = {}
        if store_url:
            bucket = store_url.removeprefix("s3://")
            self.path = f"{bucket}/{self.path}"
            self.url = f"hyperfile://{self.path}"
            self.options = dict(S3_OPTIONS, endpoint_url=(s3 or {})["endpoint_url"])
        self.fs = self.file_system()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._append)
        with Client(self.agent.append_socket, producer=fresh_producer()) as client:
            client.append("table", HEADER + b"".join(map(row, range(FIRST_ROWS))))
            client.wait_acknowledged()
            client.flush("table")
        self._thread.start()

    def file_system(self, **options: Any) -> HyperfileFileSystem:
        """A file system of its own for the agent's store."""
        root: dict[str, Any] = (
            {} if self.options else {"fo": self.agent.store_url, "target_protocol": "file"}
        )
        return HyperfileFileSystem(**root, **self.options, **options, skip_instance_cache=True)

    def _append(self) -> None:
        number = FIRST_ROWS
        with Client(self.agent.append_socket, producer=fresh_producer()) as client:
            while not self._stop.is_set():
                client.append("table", b"".join(map(row, range(number, number + GROUP))))
                client.wait_acknowledged()
                number += GROUP

    def wait_until_grown(self) -> None:
        """Return when there is a newer checkpoint than now."""
        before = self.fs.info(self.path)["checkpoint"]
        while self.fs.info(self.path)["checkpoint"] == before:
            pass

    def check(self, numbers: list[int], squares: list[int]) -> None:
        """These rows are what one checkpoint holds, all of it."""
        count = len(numbers)
        assert count >= FIRST_ROWS
        assert (count - FIRST_ROWS) % GROUP == 0
        assert numbers == list(range(count))
        assert squares == [number * number for number in numbers]
        size = len(HEADER) + sum(len(row(number)) for number in range(count))
        newest = self.fs.info(self.path)["checkpoint"]
        low, high = 1, newest
        while low < high:  # sizes only grow
            middle = (low + high) // 2
            with self.fs.open(self.path, checkpoint=middle) as file:
                low, high = (middle + 1, high) if file.size < size else (low, middle)
        with self.fs.open(self.path, checkpoint=low) as file:
            assert file.size == size, "these rows are no checkpoint's"

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.agent.close()
        self.fs.close()
        HyperfileFileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrowingTable]:
    """On the directory store."""
    growing = GrowingTable(tmp_path_factory.mktemp("table"))
    yield growing
    growing.close()


@pytest.fixture(scope="module")
def s3_table(tmp_path_factory: pytest.TempPathFactory, moto_s3: MotoS3) -> Iterator[GrowingTable]:
    """On S3."""
    growing = GrowingTable(
        tmp_path_factory.mktemp("s3-table"),
        store_url=f"s3://{moto_s3.make_bucket()}",
        s3={"endpoint_url": moto_s3.endpoint_url, "addressing": "path", "region": "us-east-1"},
    )
    yield growing
    growing.close()


@pytest.fixture(scope="module", params=["table", "s3_table"])
def any_table(request: pytest.FixtureRequest) -> GrowingTable:
    """On either store."""
    found: GrowingTable = request.getfixturevalue(request.param)
    return found


def test_pandas_reads_csv(any_table: GrowingTable) -> None:
    first = pd.read_csv(any_table.url, storage_options=any_table.options)
    any_table.check(first["number"].tolist(), first["square"].tolist())
    any_table.wait_until_grown()
    second = pd.read_csv(any_table.url, storage_options=any_table.options)
    any_table.check(second["number"].tolist(), second["square"].tolist())
    assert len(second) > len(first)


def test_pyarrow_reads_csv(any_table: GrowingTable) -> None:
    arrow = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(any_table.fs))
    for opened in (arrow.open_input_stream, arrow.open_input_file):
        with opened(any_table.path) as stream:
            found = pyarrow.csv.read_csv(stream)
        any_table.check(found["number"].to_pylist(), found["square"].to_pylist())
        any_table.wait_until_grown()
    info = arrow.get_file_info(any_table.path)
    assert info.size >= FIRST_ROWS


def test_duckdb_reads_csv(any_table: GrowingTable) -> None:
    # DuckDB asks the file system for the size of a file that it has open.
    pinned = any_table.file_system(pin=True)
    connection = duckdb.connect()
    connection.register_filesystem(pinned)
    found = connection.execute(
        f"select number, square from read_csv('hyperfile://{any_table.path}') order by number"
    ).fetchall()
    any_table.check([number for number, _ in found], [square for _, square in found])
    connection.close()
    pinned.close()


@pytest.mark.parametrize(
    ("name", "scheduler"), [("table", "threads"), ("table", "processes"), ("s3_table", "threads")]
)
def test_dask_reads_text_in_parallel_blocks(
    request: pytest.FixtureRequest, name: str, scheduler: str
) -> None:
    """Of a container of many blocks, by workers that open it while it grows."""
    any_table: GrowingTable = request.getfixturevalue(name)
    assert any_table.fs.info(any_table.path)["size"] > 50 * 4096
    options = {**any_table.options, "pin": True, "skip_instance_cache": True}
    bag = dask.bag.read_text(any_table.url, blocksize=20_000, storage_options=options)  # type: ignore[no-untyped-call]
    assert bag.npartitions > 10
    any_table.wait_until_grown()  # the blocks were cut before that
    with dask.config.set(scheduler=scheduler, num_workers=2):
        lines = bag.compute()
    assert lines[0].encode() == HEADER
    numbers, squares = zip(*(map(int, line.split(",")) for line in lines[1:]), strict=True)
    any_table.check(list(numbers), list(squares))


def test_many_ranges_of_one_call_are_of_one_checkpoint(any_table: GrowingTable) -> None:
    fs, path = any_table.fs, any_table.path
    size = fs.size(path)
    parts = fs.cat_ranges(
        [path] * 50,
        [size * index // 50 for index in range(50)],
        [size * (index + 1) // 50 for index in range(50)],
        on_error="raise",
    )
    assert b"".join(parts).startswith(HEADER + row(0))
    with fsspec.open(any_table.url, "rb", **any_table.options) as file:
        assert file.read().startswith(b"".join(parts))
