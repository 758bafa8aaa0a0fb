"""Received bytes are neither lost nor overwritten, and memory follows what really arrives."""

from __future__ import annotations

import random

from hf_agent.ingest.receive_buffer import LARGEST, SMALLEST, ReceiveBuffer


class CountingHolding:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def resize(self, nbytes: int) -> bool:
        if nbytes > max(self.limit, SMALLEST):
            return False
        self.held = nbytes
        return True

    def touch(self) -> None:
        pass


def receive(buffer: ReceiveBuffer, data: bytes) -> None:
    room = buffer.room()
    assert len(data) <= len(room)
    room[: len(data)] = data
    buffer.received(len(data))


def test_views_that_were_given_away_never_change() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        buffer = ReceiveBuffer()
        kept: list[tuple[bytes | memoryview, bytes]] = []
        for _ in range(400):
            size = len(buffer.room())
            receive(buffer, rng.randbytes(rng.randint(1, min(size, 60_000))))
            while len(buffer) > 10 and rng.random() < 0.7:
                size = rng.randint(1, len(buffer))
                view = buffer.view[buffer.start : buffer.start + size]
                kept.append((buffer.keep(view), bytes(view)))
                buffer.consume(size)
            assert buffer.prepare()
        for given, expected in kept:
            assert bytes(given) == expected, f"seed={seed}"


def test_small_payloads_are_copied_so_that_they_pin_nothing() -> None:
    buffer = ReceiveBuffer()
    receive(buffer, b"x" * 10_000)
    assert isinstance(buffer.keep(buffer.view[:100]), bytes)
    assert isinstance(buffer.keep(buffer.view[100:9000]), memoryview)


def test_an_idle_buffer_holds_no_memory() -> None:
    holding = CountingHolding(1 << 30)
    buffer = ReceiveBuffer(holding)
    assert buffer.capacity == 0
    receive(buffer, b"abc")
    assert holding.held == buffer.capacity == SMALLEST
    buffer.release()
    assert buffer.capacity == SMALLEST, "unparsed bytes are not released"
    buffer.consume(3)
    buffer.release()
    assert holding.held == buffer.capacity == 0


def test_the_size_follows_the_peer_up_and_down() -> None:
    buffer = ReceiveBuffer()

    def read(nbytes: int | None) -> int:
        room = len(buffer.room())
        buffer.received(room if nbytes is None else nbytes)
        buffer.keep(buffer.view[buffer.start : buffer.end])
        buffer.consume(len(buffer))
        buffer.release()
        return room

    sizes = [read(None) for _ in range(8)]
    assert sizes[:5] == [SMALLEST, 2 * SMALLEST, 4 * SMALLEST, 8 * SMALLEST, LARGEST]
    assert set(sizes[5:]) == {LARGEST}
    sizes = [read(10) for _ in range(60)]
    assert sizes[-1] == SMALLEST


def test_a_large_message_grows_the_buffer_by_what_arrives_and_not_by_what_it_declares() -> None:
    holding = CountingHolding(1 << 30)
    buffer = ReceiveBuffer(holding)
    total = 8 << 20
    arrived = 0
    while arrived < total:
        assert buffer.prepare()
        nbytes = min(len(buffer.room()), total - arrived)
        buffer.received(nbytes)
        arrived += nbytes
        buffer.wanted = total
        assert holding.held <= max(2 * arrived, LARGEST)
    assert buffer.capacity == total, "the last step takes what the message needs"
    assert len(buffer) == total


def test_a_refused_holding_leaves_the_bytes_and_says_when_there_is_no_room() -> None:
    holding = CountingHolding(SMALLEST)
    buffer = ReceiveBuffer(holding)
    content = bytes(range(256)) * (SMALLEST // 256)
    receive(buffer, content)
    buffer.wanted = 1 << 20
    assert not buffer.prepare()
    assert bytes(buffer.view[buffer.start : buffer.end]) == content
    holding.limit = 1 << 20
    assert buffer.prepare()
    assert bytes(buffer.view[buffer.start : buffer.end]) == content
    assert len(buffer.room()) >= SMALLEST


def test_feeding_takes_any_amount() -> None:
    buffer = ReceiveBuffer()
    data = random.Random(1).randbytes(3 << 20)
    buffer.feed(data)
    assert bytes(buffer.view[buffer.start : buffer.end]) == data
