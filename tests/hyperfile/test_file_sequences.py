"""Every sequence of a few changes, alone and on top of another writer: short, but all of them."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from hf_agent.hyperfile import FileOptions, HyperFile
from support.file_model import FileModel
from support.files import FileBench

BLOCK = 4096
BASE = random.Random(1).randbytes(3 * BLOCK + 500)
THEIRS = random.Random(2).randbytes(4 * BLOCK + 70)

Change = tuple[str, int, int]

CHANGES: list[Change] = [
    ("write", BLOCK + 10, 20),
    ("write", 5 * BLOCK - 5, 10),
    ("write", 100, 2 * BLOCK),
    ("zero", 50, 2 * BLOCK),
    ("zero", 3 * BLOCK, 2 * BLOCK),
    ("truncate", 100, 0),
    ("truncate", 2 * BLOCK + 7, 0),
    ("truncate", 6 * BLOCK + 1, 0),
]


async def apply(file: HyperFile, model: FileModel, change: Change, seed: int) -> None:
    what, at, length = change
    if what == "write":
        data = random.Random(seed).randbytes(length)
        await file.pwrite(at, data)
        model.write(at, data)
    elif what == "zero":
        await file.zero(at, length)
        model.write(at, bytes(length))
    else:
        await file.truncate(at)
        model.truncate(at)


async def bench_with_base(dirty_bytes: int) -> FileBench:
    bench = FileBench(options=FileOptions(block_size=BLOCK, dirty_bytes=dirty_bytes))
    async with await bench.open("x") as file:
        await file.append(BASE)
    return bench


@pytest.mark.parametrize("dirty_bytes", [0, 1 << 20], ids=["ahead", "memory"])
async def test_every_sequence_of_three_changes(dirty_bytes: int) -> None:
    bench = await bench_with_base(dirty_bytes)
    start = dict(bench.store.objects)
    for sequence in itertools.product(CHANGES, repeat=3):
        bench.store.objects = {key: replace(each) for key, each in start.items()}
        file = await bench.open("r+")
        model = FileModel(bytearray(BASE), 1)
        for seed, change in enumerate(sequence):
            await apply(file, model, change, seed)
        assert await file.pread(0, file.size + 1) == model.content, sequence
        await file.flush()
        assert await bench.content() == model.content, sequence
        await bench.check()


@pytest.mark.parametrize("dirty_bytes", [0, 1 << 20], ids=["ahead", "memory"])
async def test_every_sequence_of_two_changes_on_top_of_another_writer(dirty_bytes: int) -> None:
    bench = await bench_with_base(dirty_bytes)
    start = dict(bench.store.objects)
    retry = replace(bench.options, on_conflict="retry")
    for sequence in itertools.product(CHANGES, repeat=2):
        for their_size in (10, BLOCK, len(THEIRS)):
            bench.store.objects = {key: replace(each) for key, each in start.items()}
            file = await bench.open("r+", options=retry)
            model = FileModel(bytearray(BASE), 1)
            for seed, change in enumerate(sequence):
                await apply(file, model, change, seed)
            theirs = await bench.open("w")
            await theirs.append(THEIRS[:their_size])
            await theirs.flush()
            await file.flush()
            expected = model.on_top_of(THEIRS[:their_size])
            assert await bench.content() == expected, (sequence, their_size)
            await bench.check()
