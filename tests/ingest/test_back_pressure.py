"""Nothing is read while nothing can be taken, nothing is written to who does not read, and what
connections hold together is bounded."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from hf_agent.ingest.budget import PATIENCE, ReceiveBudget
from hf_agent.ingest.receive_buffer import SMALLEST
from hf_agent.metrics import Metrics
from support.forward_wire import packed
from support.listening import listening
from support.manual_clock import ManualClock
from support.wire import Wire, frame


async def test_a_client_waits_while_the_sink_has_no_room_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.room = False
        wire = await Wire.connect(setup.path)
        total = 200
        for id in range(1, total + 1):
            wire.send("append", id, "app", b"%05d" % id + b"x" * 20_000)
        await setup.sink.until(setup.sink.waits_for_room)
        assert not setup.sink.taken
        assert list(setup.listener.waits()) == [("append", "room")]
        assert wire.writer.transport.get_write_buffer_size() > 3_000_000, "the agent does not read"
        setup.sink.make_room()
        await wire.receive_until("ack", total)
        content = setup.sink.content("app")
        assert [int(content[place : place + 5]) for place in range(0, len(content), 20_005)] == [
            *range(1, total + 1)
        ]
        await wire.close()


async def test_status_and_flush_are_answered_while_the_sink_has_no_room(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.room = False
        wire = await Wire.connect(setup.path)
        wire.send("status", 1)
        wire.send("flush", 2, None)
        assert {(await wire.receive())[0] for _ in range(2)} == {"status", "flushed"}
        await wire.close()


async def test_what_was_sent_before_the_client_left_is_taken_when_there_is_room(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.room = False
        wire = await Wire.connect(setup.path)
        for id in range(1, 51):
            wire.send("append", id, "app", b"x" * 1000)
        await wire.close()
        await setup.sink.until(setup.sink.waits_for_room)
        setup.sink.make_room()
        await setup.sink.until(lambda: setup.sink.records("app") == 50)


async def test_acknowledgements_that_a_client_does_not_read_do_not_pile_up(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        total = 20_000
        for id in range(1, total + 1):
            wire.send("append", id, f"stream-{id % 500}-with-a-long-name", b"x")
            if id % 500 == 0:
                await wire.writer.drain()
        await setup.sink.until(lambda: len(setup.sink.taken) == total)
        (connection,) = setup.listener._endpoint.connections
        assert connection._output_paused
        transport = connection._transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 256 << 10
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await wire.receive_until("ack", total)
        await wire.close()


async def test_a_client_that_asks_and_does_not_read_is_not_read_from(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.status_answer = {"text": "x" * 10_000}
        wire = await Wire.connect(setup.path)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for request in range(1, 2001):
            wire.send("status", request)
        (connection,) = setup.listener._endpoint.connections
        while not connection._waits:
            await asyncio.sleep(0.001)
        transport = connection._transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 256 << 10
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for request in range(1, 2001):
            assert (await wire.receive())[1] == request
        await wire.close()


async def test_idle_connections_hold_no_memory(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wires = [await Wire.connect(setup.path) for _ in range(5)]
        for wire in wires:
            wire.send("append", 1, "app", b"x" * 10_000)
            await wire.receive_until("ack", 1)
        assert setup.budget.held == 0
        assert setup.metric("receive_buffer_bytes") == 0
        for wire in wires:
            await wire.close()


def large(id: int, nbytes: int = 900_000) -> bytes:
    return frame("append", id, "app", b"x" * nbytes)


async def begin(path: Path, data: bytes) -> socket.socket:
    """A client that sends as much of `data` as is taken."""
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, str(path))
    await loop.sock_sendall(client, frame("hello", 1, {}) + data)
    return client


async def test_memory_for_incomplete_messages_is_bounded_over_all_connections(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, budget_bytes=1 << 20, max_record_bytes=4 << 20) as setup:
        wires = [await Wire.connect(setup.path) for _ in range(6)]
        payload = b"x" * 700_000
        for wire in wires:
            wire.send("append", 1, "app", payload)
        for wire in wires:
            await wire.receive_until("ack", 1)
            assert setup.budget.held <= (1 << 20) + 6 * SMALLEST
        assert setup.sink.content("app") == payload * 6
        for wire in wires:
            await wire.close()


def unfinished(protocol: str, nbytes: int) -> tuple[bytes, bytes]:
    """A record of so many bytes, as a client sends it: all but its end, and the end."""
    text = b"x" * nbytes
    if protocol == "append":
        record = frame("hello", 1, {}) + frame("append", 1, "app", text)
    elif protocol == "forward":
        record = packed("app", [1, {"m": text.decode()}])
    else:
        record = text + b"\n"
    return record[:-1], record[-1:]


@pytest.mark.parametrize("protocol", ["append", "lines", "forward", "syslog"])
async def test_clients_that_stop_inside_a_record_hold_bounded_memory_together(
    tmp_path: Path, protocol: str
) -> None:
    """16 begin 300 KiB each, with 1 MiB for all of them: in the end all of it arrives."""
    limit, number, nbytes = 1 << 20, 16, 300 << 10
    async with listening(
        tmp_path, protocol=protocol, budget_bytes=limit, clock=ManualClock()
    ) as setup:
        begin, end = unfinished(protocol, nbytes)
        writers = []
        most = 0
        for _ in range(number):
            _, writer = await asyncio.open_unix_connection(str(setup.path))
            writer.write(begin)
            writers.append(writer)
        async with asyncio.timeout(60):
            while not setup.budget.waiting:
                most = max(most, setup.budget.held)
                await asyncio.sleep(0.001)
            for writer in writers:
                writer.write(end)
                writer.write_eof()
            while setup.sink.records("app") < number:
                most = max(most, setup.budget.held)
                await asyncio.sleep(0.001)
        # One of them may go beyond the limit, in a buffer of twice its message at most.
        assert most <= limit + 2 * nbytes + number * SMALLEST
        assert setup.sink.content("app").count(b"x") == number * nbytes
        for writer in writers:
            writer.close()


async def test_who_holds_memory_and_stands_still_is_told_to_go_for_those_who_wait(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with listening(
        tmp_path, budget_bytes=1 << 20, max_record_bytes=4 << 20, clock=clock
    ) as setup:
        stuck = await begin(setup.path, large(1, 3_000_000)[:600_000])
        while setup.budget.held < 600_000:
            await asyncio.sleep(0.001)
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"y" * 900_000)
        while not setup.budget.waiting:
            await asyncio.sleep(0.001)
        await clock.advance(PATIENCE * 0.9)
        assert setup.budget.waiting, "not yet"
        await clock.advance(PATIENCE)
        await wire.receive_until("ack", 1)
        assert setup.sink.content("app") == b"y" * 900_000
        assert setup.rejected("no_buffer_space") == 1
        reader, writer = await asyncio.open_unix_connection(sock=stuck)
        messages = await Wire(reader, writer).rest()
        assert messages[-1][1] == "no_buffer_space"
        writer.close()
        await wire.close()


async def test_connections_that_all_wait_for_each_other_go_on_one_at_a_time(
    tmp_path: Path,
) -> None:
    """Each message is larger than the budget; nobody is at fault, so nobody is told to go."""
    async with listening(
        tmp_path, budget_bytes=1 << 20, max_record_bytes=4 << 20, clock=ManualClock()
    ) as setup:
        wires = [await Wire.connect(setup.path) for _ in range(4)]
        for wire in wires:
            wire.send("append", 1, "app", b"x" * 2_000_000)
        for wire in wires:
            await wire.receive_until("ack", 1)
            assert setup.budget.held <= (1 << 20) + (2 << 20) + 4 * SMALLEST
        assert len(setup.sink.content("app")) == 8_000_000
        for wire in wires:
            await wire.close()


async def test_nobody_is_told_to_go_for_standing_still_while_the_wal_takes_nothing() -> None:
    clock = ManualClock()
    budget = ReceiveBudget(1 << 20, Metrics(), clock)
    told: list[str] = []
    blocked = budget.share(on_room=lambda: None, on_evicted=lambda: told.append("blocked"))
    waiting = budget.share(
        on_room=lambda: told.append("room"), on_evicted=lambda: told.append("waiting")
    )
    assert blocked.resize(1 << 20)
    blocked.excuse(True)
    assert not waiting.resize(100_000)
    waiting.wait(100_000)
    await clock.until_asleep()
    await clock.advance(10 * PATIENCE)
    assert not told
    blocked.excuse(False)
    await clock.advance(PATIENCE / 2)
    assert not told, "patience begins when it could go on"
    blocked.close()
    await asyncio.sleep(0)
    assert told == ["room"]
    assert waiting.held == budget.held == 100_000
    waiting.close()
    await budget.close()


def test_the_header_of_a_large_frame_alone_reserves_nothing() -> None:
    header = struct.pack(">I", 4 << 20)

    async def scenario() -> None:
        clock = ManualClock()
        budget = ReceiveBudget(1 << 20, Metrics(), clock)
        share = budget.share(on_room=lambda: None, on_evicted=lambda: None)
        from hf_agent.ingest.append_protocol import decode_client
        from hf_agent.ingest.receive_buffer import ReceiveBuffer

        buffer = ReceiveBuffer(share)
        decoder = decode_client(8 << 20, buffer)
        buffer.feed(header + b"x" * 100)
        assert decoder.next() is None
        assert buffer.prepare()
        assert budget.held <= SMALLEST
        share.close()

    asyncio.run(scenario())
