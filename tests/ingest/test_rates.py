"""Over a rate, reading slows and nothing is lost; who is silent for too long is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_agent.ingest.budget import ReceiveBudget
from hf_agent.ingest.rate_limits import MAX_STREAM_BUCKETS, RateLimits
from hf_agent.ingest.receive_buffer import LARGEST
from hf_agent.metrics import Metrics
from support.forward_wire import Peer, packed
from support.listening import Setup, SocketConfig, listening
from support.manual_clock import ManualClock
from support.wire import Wire, frame

KIB = 1 << 10


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def throttled(setup: Setup, reason: str) -> tuple[float, float]:
    labels = {"protocol": setup.config.protocol, "reason": reason}
    return (
        setup.metric("throttled_connections", **labels),
        setup.metric("throttled_seconds_total", **labels),
    )


@pytest.mark.parametrize("protocol", ["append", "lines", "forward", "syslog"])
async def test_a_connection_is_read_from_at_its_rate_to_the_byte(
    tmp_path: Path, protocol: str
) -> None:
    clock = ManualClock()
    access = {"connection_bytes_per_second": 16 * KIB, "connection_burst_bytes": 64 * KIB}
    total = 160 * KIB
    async with listening(tmp_path, protocol=protocol, clock=clock, access=access) as setup:
        received = 0
        _, writer = await asyncio.open_unix_connection(str(setup.path))
        if protocol == "append":
            pieces = [frame("hello", 1, {})]
            pieces += [frame("append", n, "app", b"x" * KIB) for n in range(1, 161)]
        elif protocol in ("lines", "syslog"):
            pieces = [b"x" * (KIB - 1) + b"\n"] * 160
        else:
            pieces = [packed("app", [1, {"m": "x" * KIB}]) for _ in range(160)]
        await until(lambda: setup.listener.connections == 1)
        (connection,) = setup.listener._endpoint.connections
        advance = connection.buffer_updated

        def count(nbytes: int) -> None:
            nonlocal received
            received += nbytes
            advance(nbytes)

        connection.buffer_updated = count  # type: ignore[method-assign]
        writer.write(b"".join(pieces))
        for seconds in range(5):
            await until(lambda: throttled(setup, "connection_rate")[0] == 1)
            assert 48 * KIB + 16 * KIB * seconds <= received <= 64 * KIB + 16 * KIB * seconds
            await clock.until_asleep()
            before = received
            await clock.advance(1.0)
            await until(lambda before=before: received > before)  # type: ignore[misc]
        for _ in range(20):
            await clock.advance(1.0)
            await asyncio.sleep(0.001)
        await until(lambda: setup.sink.records("app") == 160)
        assert received == len(b"".join(pieces)) >= total
        assert 4 <= throttled(setup, "connection_rate")[1] <= 25, "what the clock was put forward"
        writer.close()


async def test_connections_that_append_to_one_stream_share_its_rate(tmp_path: Path) -> None:
    clock = ManualClock()
    access = {"stream_bytes_per_second": 1000, "stream_burst_bytes": 16 * KIB}
    async with listening(tmp_path, clock=clock, access=access) as setup:
        wires = [await Wire.connect(setup.path) for _ in range(2)]
        for wire in wires:
            for id in range(1, 41):
                wire.send("append", id, "app", b"x" * 1000)
        other = await Wire.connect(setup.path)
        other.send("append", 1, "other", b"y")
        await other.receive_until("ack", 1)
        await until(lambda: throttled(setup, "stream_rate")[0] == 2)
        begin = setup.sink.records("app")
        assert begin * 1000 <= 16 * KIB + 2 * 1000
        for second in range(1, 200):
            await clock.advance(1.0)
            await asyncio.sleep(0)
            assert setup.sink.records("app") <= begin + second + 1
            if setup.sink.records("app") == 80:
                break
        await until(lambda: setup.sink.records("app") == 80)
        for wire in wires:
            await wire.receive_until("ack", 40)
            await wire.close()
        await other.close()
        await clock.advance(60)
        assert throttled(setup, "stream_rate")[0] == 0


@pytest.mark.parametrize("protocol", ["lines", "forward", "syslog"])
async def test_the_rate_of_a_stream_holds_for_other_protocols_but_for_one_append_of_each(
    tmp_path: Path, protocol: str
) -> None:
    clock = ManualClock()
    rate = burst = 64 * KIB
    access = {"stream_bytes_per_second": rate, "stream_burst_bytes": burst}
    async with listening(tmp_path, protocol=protocol, clock=clock, access=access) as setup:
        piece = b"x" * (KIB - 1) + b"\n"
        if protocol == "forward":
            piece = packed("app", [1, {"m": "x" * KIB}])
        peers = [await Peer.connect(setup.path) for _ in range(2)]
        for peer in peers:
            peer.send_bytes(piece * KIB)
        for second in range(60):
            await until(
                lambda: (
                    throttled(setup, "stream_rate")[0] == 2 or setup.sink.records("app") == 2 * KIB
                )
            )
            taken = len(setup.sink.content("app"))
            assert taken <= burst + rate * second + 2 * LARGEST
            await clock.advance(1.0)
            await asyncio.sleep(0.001)
        await until(lambda: setup.sink.records("app") == 2 * KIB)
        assert throttled(setup, "stream_rate")[1] >= 20
        for peer in peers:
            await peer.close()


async def test_what_was_read_is_taken_at_a_stop_and_after_the_client_left(tmp_path: Path) -> None:
    access = {"stream_bytes_per_second": 1024, "stream_burst_bytes": 16 * KIB}
    async with listening(tmp_path, clock=ManualClock(), access=access) as setup:
        wire = await Wire.connect(setup.path)
        for id in range(1, 31):
            wire.send("append", id, "app", b"x" * 1000)
        await until(lambda: throttled(setup, "stream_rate")[0] == 1)
        await setup.listener.close(20.0)
        messages = await wire.rest()
        acked = max(message[1] for message in messages if message[0] == "ack")
        assert setup.sink.records("app") == acked
        assert messages[-1][1] == "shutting_down"
        assert throttled(setup, "stream_rate")[0] == 0
        await wire.close()


def test_the_buckets_of_streams_are_bounded_in_number() -> None:
    config = SocketConfig("s", stream_bytes_per_second=1000)
    rates = RateLimits(config, ManualClock())
    rates.spend("first", 100 * KIB)
    for number in range(3 * MAX_STREAM_BUCKETS):
        rates.spend(f"stream-{number}", 1)
        if number % 1000 == 0:
            assert rates.spend("first", 0) > 0, "in use: kept"
    assert rates.stream_buckets == MAX_STREAM_BUCKETS


async def test_nobody_waits_for_the_memory_of_one_that_a_rate_keeps_still() -> None:
    budget = ReceiveBudget(1 << 20, Metrics(), ManualClock())
    told: list[str] = []
    slow = budget.share(on_room=lambda: None, on_evicted=lambda: told.append("evicted"))
    other = budget.share(on_room=lambda: told.append("room"), on_evicted=lambda: None)
    assert slow.resize(1 << 20) and not other.resize(500_000)
    other.wait(500_000)
    slow.pace(True)
    await asyncio.sleep(0)
    assert told == ["room"]
    for share in (slow, other):
        share.close()
    await budget.close()


# Silence.


@pytest.mark.parametrize("begun", [b"", b"\x00\x00\x01"])
async def test_a_silent_client_is_ended_with_the_reason_also_inside_a_message(
    tmp_path: Path, begun: bytes
) -> None:
    clock = ManualClock()
    async with listening(tmp_path, clock=clock, access={"idle_timeout": 60.0}) as setup:
        wire = await Wire.connect(setup.path)
        wire.send_bytes(begun)
        (connection,) = setup.listener._endpoint.connections
        await until(lambda: len(connection._buffer) == len(begun))
        await clock.until_asleep()
        await clock.advance(60)
        assert setup.listener.connections == 1, "not yet"
        await clock.advance(10)
        assert (await wire.rest())[-1][:2] == ["error", "idle_timeout"]
        assert setup.metric("timed_out_connections_total", protocol="append") == 1
        assert setup.rejected("incomplete") == bool(begun)
        await wire.close()


async def test_who_sends_or_waits_for_an_answer_is_not_silent(tmp_path: Path) -> None:
    clock = ManualClock()
    async with listening(tmp_path, clock=clock, access={"idle_timeout": 60.0}) as setup:
        talker, waiter = [await Wire.connect(setup.path) for _ in range(2)]
        setup.sink.store_held = True
        waiter.send("append", 1, "app", b"x", "store")
        await waiter.receive_until("ack", 1)
        for id in range(1, 11):
            talker.send("append", id, "app", b"y")
            await talker.receive_until("ack", id)
            await clock.advance(30)
        setup.sink.make_stored()
        await waiter.receive_until("stored", 1)
        assert setup.listener.connections == 2
        for wire in (talker, waiter):
            await wire.close()


@pytest.mark.parametrize("protocol", ["lines", "forward", "syslog"])
async def test_silence_ends_connections_of_other_protocols_too(
    tmp_path: Path, protocol: str
) -> None:
    clock = ManualClock()
    access = {"idle_timeout": 60.0}
    async with listening(tmp_path, protocol=protocol, clock=clock, access=access) as setup:
        peer = await Peer.connect(setup.path)
        await until(lambda: setup.listener.connections == 1)
        await clock.advance(70)
        async with asyncio.timeout(20):
            said = await peer.reader.read(1000)
        assert said.startswith(b"error idle_timeout: ") if protocol != "forward" else said == b""
        await peer.close()


async def test_without_a_limit_silence_lasts(tmp_path: Path) -> None:
    clock = ManualClock()
    async with listening(tmp_path, clock=clock) as setup:
        wire = await Wire.connect(setup.path)
        await clock.advance(1e9)
        wire.send("append", 1, "app", b"x")
        await wire.receive_until("ack", 1)
        await wire.close()
