"""Blocks of a read that lie side by side come in few requests, several of them at a time."""

from __future__ import annotations

import asyncio
import random
from array import array
from itertools import pairwise
from typing import Any

import pytest

from hf_agent.hyperfile import FileOptions
from hf_agent.hyperfile.data_runs import data_runs
from hf_agent.hyperfile.meta_config import MetaConfig, PointerFormat
from hf_agent.hyperfile.pointers import HOLE, ZERO, Place, decode_place, encode_place
from hf_agent.store.base import ObjectData
from support.files import FileBench
from support.memory_store import MemoryStore
from support.sparse_container import CountedStore

BLOCK = 4096


def random_pointers(rng: random.Random, meta: MetaConfig) -> tuple[array[int], list[Place | None]]:
    """Neighbours, holes and jumps; and the place of each block, None for zeros."""
    places: list[Place | None] = []
    pointers = array("Q")
    part = rng.randrange(3) if meta.pointer_format.parted else 0
    place, sequence = Place(1, part, 8192), 16
    for _ in range(rng.randrange(1, 60)):
        draw = rng.random()
        if draw < 0.2:
            places.append(None)
            pointers.append(rng.choice((HOLE, ZERO)))
            continue
        if draw < 0.3:
            sequence = rng.randrange(16, 200)
            place = Place(rng.randrange(1, 9), part, sequence * BLOCK)
        places.append(place)
        pointers.append(encode_place(place, meta.pointer_format, sequence=sequence))
        place, sequence = place._replace(offset=place.offset + BLOCK), sequence + 1
    return pointers, places


@pytest.mark.parametrize("pointer_format", list(PointerFormat))
def test_runs_cover_every_byte_of_a_read_once_and_join_all_neighbours(
    pointer_format: PointerFormat,
) -> None:
    meta = MetaConfig(12, 12, pointer_format)
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    for _ in range(200):
        pointers, places = random_pointers(rng, meta)
        skip = rng.randrange(BLOCK)
        length = rng.randrange((len(places) - 1) * BLOCK + 1, len(places) * BLOCK + 1)
        length = max(length - skip, 1)
        per_run = rng.choice((1, 2, 5, 1000))
        runs = list(data_runs(pointers, meta, skip=skip, length=length, max_bytes=per_run * BLOCK))
        assert sum(run.length for run in runs) == length, f"{seed=}"
        at = skip
        for run in runs:
            assert run.skip == at % BLOCK
            assert 0 < run.skip + run.length <= per_run * BLOCK
            for byte in range(at, at + run.length, BLOCK):
                expected, steps = places[byte // BLOCK], (byte - at + run.skip) // BLOCK
                if run.place is None:
                    assert expected is None, f"{seed=}"
                else:
                    there = run.place._replace(offset=run.place.offset + steps * BLOCK)
                    assert there == expected, f"{seed=}"
            at += run.length
        if per_run == 1000:
            breaks = sum(not neighbours(a, b) for a, b in pairwise(places))
            assert len(runs) <= breaks + 1, f"{seed=}"


def neighbours(a: Place | None, b: Place | None) -> bool:
    if a is None or b is None:
        return a is b
    return b == a._replace(offset=a.offset + BLOCK)


def test_places_come_out_of_pointers_as_they_went_in() -> None:
    place = Place(7, 3, 5 * BLOCK)
    assert decode_place(encode_place(place, PointerFormat.PARTED), PointerFormat.PARTED) == place


class SlowStore(CountedStore):
    """Answers after a few turns of the loop."""

    async def get(self, key: str, **named: Any) -> ObjectData:
        data = await super().get(key, **named)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        for _ in range(10):
            await asyncio.sleep(0)
        self.in_flight -= 1
        return data


async def test_size_and_number_of_requests_are_options() -> None:
    bench = FileBench(store=MemoryStore())
    content = random.Random(3).randbytes(64 * BLOCK)
    async with await bench.open("x") as file:
        await file.append(content)
    for blocks, requests in ((4, 1), (4, 3), (16, 2), (64, 8)):
        store = SlowStore(bench.store)
        options = FileOptions(request_bytes=blocks * BLOCK, requests=requests)
        reading = FileBench(store=store, options=options, created=bench.created)  # type: ignore[arg-type]
        async with await reading.open("r") as file:
            await file.pread(0, 1)
            store.clear()
            assert await file.pread(0, len(content)) == content
        sizes = [end - start for _, start, end in store.gets if start and end]
        assert sizes == [blocks * BLOCK] * (64 // blocks)
        assert store.most_in_flight == min(requests, 64 // blocks)


@pytest.mark.parametrize("name", ["request_bytes", "requests", "uploads", "ahead_bytes"])
def test_options_of_nothing_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above zero"):
        named: dict[str, Any] = {name: 0}
        FileOptions(**named)
