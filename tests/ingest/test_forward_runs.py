"""Messages that are taken many at a time leave what each of them leaves by itself."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hf_agent.ingest.forward.dedup import chunk_key, chunk_keys
from hf_agent.ingest.forward.messages import Events, Options
from hf_agent.ingest.sink import WHOLE_CHUNK
from support.forward_wire import Peer, event_time, pack, packed
from support.listening import Setup, listening

RECORDS: tuple[Any, ...] = (
    *({"log": "GET /", "status": number} for number in range(8)),
    {"log": "GET /", "status": 1, "time": "own"},
    {"$key": 1},
    {"nan": float("nan")},
    {"huge": 2**64 - 1, "small": -(2**63)},
    {"binary": b"\xff\xfe"},
    {"deep": [[[[[[[[1]]]]]]]]},
    {},
)
TWICE = b"\x82\xa1a\x01\xa1a\x02"
"""A record in which a key comes twice."""
FLOAT32 = b"\x81\xa1f\xca\x3f\x80\x00\x00"


def message(rng: random.Random, number: int) -> bytes:
    """A chunk of one to three entries, mostly plain ones, and mostly with an id of its own."""
    entries = b""
    count = rng.choice((1, 1, 1, 3))
    for _ in range(count):
        usual = rng.random() < 0.995
        record = pack(rng.choice(RECORDS[:8] if usual else RECORDS))
        if rng.random() < 0.003:
            record = rng.choice((TWICE, FLOAT32))
        entries += b"\x92" + pack(event_time(number, rng.randrange(10**9))) + record
    chunk = f"{rng.randrange(number + 1) if rng.random() < 0.01 else number:08}"
    options: dict[str, Any] = {"chunk": chunk}
    if rng.random() < 0.98:
        options["size"] = count
    tag = "app.web" if rng.random() < 0.98 else "app.db"
    made: bytes = msgpack.packb([tag, entries, options])
    return made


def stored(setup: Setup) -> dict[str, bytes]:
    return {stream: setup.sink.content(stream) for stream in ("app.web", "app.db")}


async def test_messages_taken_together_leave_the_same_bytes_and_answers_as_one_by_one(
    tmp_path: Path,
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    appends = 0
    for round_ in range(10):
        messages = [message(rng, number) for number in range(100)]
        (tmp_path / f"{round_}").mkdir()
        async with listening(tmp_path / f"{round_}", protocol="forward", stream="") as setup:
            peer = await Peer.connect(setup.path)
            peer.send_bytes(*messages)
            together = await peer.acks(100), stored(setup), setup.sink.chunks
            appends += len(setup.sink.taken)
            await peer.close()
        (tmp_path / f"{round_}-single").mkdir()
        async with listening(tmp_path / f"{round_}-single", protocol="forward", stream="") as setup:
            peer = await Peer.connect(setup.path)
            acks = []
            for each in messages:
                peer.send_bytes(each)
                acks += await peer.acks(1)
            assert together == (acks, stored(setup), setup.sink.chunks)
            await peer.close()
    assert appends < 1000, "some were taken together"


async def test_a_chunk_in_a_run_that_is_known_or_comes_twice_is_stored_once(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        peer = await Peer.connect(setup.path)
        chunks = [packed("app.web", [n, {"n": n}], chunk=f"{n:02}", size=1) for n in range(20)]
        peer.send_bytes(*chunks[:10])
        assert len(await peer.acks(10)) == 10
        peer.send_bytes(*chunks[5:15], *chunks[12:20])
        ids = [*(f"{n:02}" for n in range(5, 15)), *(f"{n:02}" for n in range(12, 20))]
        assert await peer.acks(18) == ids
        assert setup.sink.records("app.web") == 20
        assert setup.metric("deduplicated_records_total") == 8
        assert list(setup.sink.chunks.values()) == [WHOLE_CHUNK] * 20
        await peer.close()


@pytest.mark.parametrize("lengths", [(8,), (0, 8, 40, 300)])
def test_keys_of_many_chunks_are_those_of_each(lengths: tuple[int, ...]) -> None:
    rng = random.Random(1)
    ids = [pack("x" * rng.choice(lengths)) for _ in range(50)]
    entries = [rng.randbytes(rng.randrange(1, 400)) for _ in ids]
    assert chunk_keys(b"app.web", ids, entries) == [
        chunk_key(Events(b"app.web", data, None, Options(chunk=id)))
        for id, data in zip(ids, entries, strict=True)
    ]
