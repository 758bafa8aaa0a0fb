"""Arrays that are used again, and never under the eyes of somebody who has a view of them."""

from __future__ import annotations

import random
from collections import deque

from hf_agent.ingest.array_pool import ArrayPool
from hf_agent.ingest.receive_buffer import LARGEST, POOL, ReceiveBuffer


def test_an_array_is_taken_again_once_its_last_view_is_gone() -> None:
    pool = ArrayPool(100, 4)
    array = pool.take()
    assert len(array) == 100
    view = memoryview(array)[10:20]
    pool.give_back(array)
    assert pool.take() is not array
    part = view[:1]
    view.release()
    assert pool.take() is not array
    part.release()
    assert pool.take() is array
    assert len(array) == 100
    assert not len(pool)


def test_arrays_of_other_sizes_and_more_than_may_be_are_not_kept() -> None:
    pool = ArrayPool(100, 2)
    pool.give_back(bytearray(99))
    assert not len(pool)
    for _ in range(3):
        pool.give_back(bytearray(100))
    assert (len(pool), pool.kept_bytes) == (2, 200)


def test_nothing_is_kept_while_nobody_takes() -> None:
    pool = ArrayPool(100, 2)
    pool.give_back(pool.take())
    pool.trim()
    assert len(pool) == 1, "it was in use since the last time"
    pool.trim()
    assert not len(pool)


def test_the_array_used_last_is_taken_first_and_what_is_never_needed_is_let_go() -> None:
    pool = ArrayPool(100, 8)
    first, second, third = (pool.take() for _ in range(3))
    for array in (first, second, third):
        pool.give_back(array)
    pool.trim()
    for _ in range(5):
        taken = pool.take()
        assert taken is third
        pool.give_back(taken)
    pool.trim()
    assert len(pool) == 1
    assert pool.take() is third


def test_what_somebody_keeps_never_changes_whatever_is_received_after_it() -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    POOL.trim()
    POOL.trim()
    buffers = [ReceiveBuffer() for _ in range(3)]
    kept: deque[tuple[memoryview | bytes, int]] = deque()
    for turn in range(2000):
        buffer = rng.choice(buffers)
        buffer.prepare()
        room = buffer.room()
        size = len(room) if rng.random() < 0.7 else rng.randrange(1, len(room) + 1)
        room[:size] = bytes([turn % 251]) * size
        del room
        buffer.received(size)
        if rng.random() < 0.9:
            last = buffer.data[buffer.end - 1]
            kept.append((buffer.keep(buffer.view[buffer.end - size : buffer.end]), last))
            buffer.consume(len(buffer))
        if rng.random() < 0.05:
            buffer.discard()
        while len(kept) > 20 or (kept and rng.random() < 0.2):
            data, value = kept.popleft()
            assert data == bytes([value]) * len(data)
    assert any(len(buffer.data) == LARGEST for buffer in buffers)
