"""Connections of protocol `forward` over real sockets, with a sink in memory."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hf_agent.config import Forward, ForwardUser
from hf_agent.ingest.connection import Wait
from hf_agent.ingest.forward.chunk import SLICE_BYTES
from hf_agent.ingest.forward_connection import ForwardConnection
from hf_agent.ingest.receive_buffer import LARGEST
from hf_agent.ingest.sink import WHOLE_CHUNK, Rejected
from support.forward_wire import Peer, event_time, pack, packed, stream_of
from support.listening import Setup, listening

EPOCH = "1970-01-01T00:00:0{}.000000000Z"


def rows(setup: Setup, stream: str = "app.web") -> list[dict[str, Any]]:
    return [json.loads(row) for row in setup.sink.content(stream).splitlines()]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def refused(setup: Setup, *data: bytes) -> tuple[list[Any], Any]:
    """What the agent says before it ends the connection for what was sent, and its log line."""
    with capture_logs() as logs:
        peer = await Peer.connect(setup.path)
        peer.send_bytes(*data)
        said = await peer.rest()
        await peer.close()
    (log,) = [entry for entry in logs if entry["event"] == "connection ends"]
    return said, log


# Taking and acknowledging.


async def test_events_of_every_mode_arrive_and_chunks_are_acknowledged(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        peer = await Peer.connect(setup.path)
        entries = [[n, {"n": n}] for n in range(4)]
        peer.send(["app.web", 0, {"n": 0}])
        peer.send(["app.web", 0, {"n": 1}, {"chunk": "one"}])
        peer.send(["app.web", entries[:2], {"chunk": b"\x00two"}])
        peer.send(["app.web", stream_of(*entries), {"chunk": "three", "size": 4}])
        zipped = gzip.compress(stream_of(*entries))
        peer.send(["app.web", zipped * 2, {"chunk": "four", "size": 8, "compressed": "gzip"}])
        assert await peer.acks(4) == ["one", b"\x00two", "three", "four"]
        assert [row["n"] for row in rows(setup)] == [0, 1, 0, 1, 0, 1, 2, 3, *range(4), *range(4)]
        assert setup.metric("received_records_total", protocol="forward") == 16
        assert setup.metric("acked_records_total", protocol="forward") == 16
        await peer.close()


async def test_an_acknowledgement_comes_when_the_chunk_is_durable_and_not_before(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        setup.sink.durability_held = True
        peer = await Peer.connect(setup.path)
        peer.send_bytes(packed("app.web", [1, {}], chunk="a"))
        await setup.sink.until(lambda: setup.sink.records("app.web") == 1)
        receiving = asyncio.create_task(peer.receive())
        done, _ = await asyncio.wait([receiving], timeout=0.05)
        assert not done
        setup.sink.make_durable()
        assert await receiving == {"ack": "a"}
        await peer.close()


async def test_messages_that_arrive_together_are_one_append_in_their_order(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        peer = await Peer.connect(setup.path)
        peer.send_bytes(
            *(packed("app.web", [n, {"n": n}], chunk=f"{n:02}", size=1) for n in range(50)),
            packed("app.db", [1, {"n": 0}], chunk="db"),
            *(packed("app.web", [n, {"n": n}], chunk=f"{n:02}", size=1) for n in range(50, 90)),
        )
        assert await peer.acks(91) == [
            *(f"{n:02}" for n in range(50)),
            "db",
            *(f"{n:02}" for n in range(50, 90)),
        ]
        assert [row["n"] for row in rows(setup)] == list(range(90))
        assert len(setup.sink.taken) == 3
        assert len(setup.sink.taken[0].chunks) == 50
        await peer.close()


async def test_heartbeats_are_let_pass(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        peer = await Peer.connect(setup.path)
        peer.send(None, None, [], ["", []], ["a b", []], ["t", b""], ["t", b"", {"size": 0}])
        peer.send(["", [], {"chunk": "empty"}], ["app.web", 1, {}, {"chunk": "full"}])
        assert await peer.acks(2) == ["empty", "full"]
        assert [taken.stream for taken in setup.sink.taken] == ["app.web"]
        await peer.close()


async def test_a_peer_that_leaves_without_waiting_loses_nothing(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        peer = await Peer.connect(setup.path)
        for number in range(2000):
            peer.send(["app.web", number, {"n": number, "x": "x" * 200}])
        await peer.writer.drain()
        await peer.close()
        await setup.sink.until(lambda: setup.sink.records("app.web") == 2000)
        assert [row["n"] for row in rows(setup)] == list(range(2000))


async def test_half_a_message_at_the_end_is_dropped_and_counted(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        peer = await Peer.connect(setup.path)
        peer.send_bytes(packed("app.web", [1, {}], chunk="a"), packed("app.web", [2, {}])[:-3])
        peer.end_writing()
        assert await peer.rest() == [{"ack": "a"}]
        assert len(rows(setup)) == 1
        assert setup.rejected("incomplete") == 1
        await peer.close()


async def test_a_stop_acknowledges_what_was_read(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        setup.sink.durability_held = True
        peer = await Peer.connect(setup.path)
        peer.send_bytes(packed("app.web", [1, {}], chunk="a"), packed("app.web", [2, {}])[:-3])
        await setup.sink.until(lambda: setup.sink.records("app.web") == 1)
        closing = asyncio.create_task(setup.listener.close(5))
        await until(lambda: setup.listener._endpoint.stopping)
        setup.sink.make_durable()
        assert await peer.rest() == [{"ack": "a"}]
        await closing
        await peer.close()


# Streams.


async def test_a_template_makes_streams_of_parts_of_the_tag(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="{tag[0]}/{tag[-1]}") as setup:
        peer = await Peer.connect(setup.path)
        peer.send(["a.b.c", 1, {}, {"chunk": "1"}], ["d.e", 1, {}, {"chunk": "2"}])
        assert await peer.acks(2) == ["1", "2"]
        assert [taken.stream for taken in setup.sink.taken] == ["a/c", "d/e"]
        await peer.close()


async def test_a_tag_that_makes_no_name_goes_to_the_fallback_stream(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        peer = await Peer.connect(setup.path)
        with capture_logs() as logs:
            peer.send(["app web", 1, {"a": 1}, {"chunk": "1"}], ["app web", 2, {}, {"chunk": "2"}])
            peer.send([b"\xff", 3, {}, {"chunk": "3"}])
            assert await peer.acks(3) == ["1", "2", "3"]
        assert rows(setup, "forward-fallback") == [
            {"time": EPOCH.format(1), "tag": "app web", "a": 1},
            {"time": EPOCH.format(2), "tag": "app web"},
            {"time": EPOCH.format(3), "tag": {"$bytes": "/w=="}},
        ]
        assert setup.metric("forward_fallback_records_total") == 3
        warnings = [entry for entry in logs if entry["log_level"] == "warning"]
        assert [entry["tag"] for entry in warnings] == ["app web", "\\xff"], "once for each tag"
        await peer.close()


async def test_without_a_fallback_stream_such_a_tag_is_refused(tmp_path: Path) -> None:
    config = Forward(fallback_stream="")
    async with listening(tmp_path, protocol="forward", stream="", forward=config) as setup:
        said, log = await refused(
            setup, packed("ok", [1, {}], chunk="1"), packed("not ok", [1, {}], chunk="2")
        )
        assert said == [{"ack": "1"}]
        assert log["code"] == "bad_stream"
        assert "tag='not ok' chunk='2'" in log["reason"]
        assert setup.rejected("bad_stream") == 1


# Resends.


async def test_a_chunk_that_is_sent_again_is_answered_and_not_stored_twice(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        message = packed("app.web", [1, {"a": 1}], [2, {"a": 2}], chunk="c", size=2)
        for _ in range(3):
            peer = await Peer.connect(setup.path)
            peer.send_bytes(message, message)
            assert await peer.acks(2) == ["c", "c"]
            await peer.close()
        assert len(rows(setup)) == 2
        assert setup.metric("deduplicated_records_total") > 0


async def test_chunks_sent_again_among_others_of_one_record_are_answered_in_order_and_stored_once(
    tmp_path: Path,
) -> None:
    def single(number: int) -> bytes:
        return packed("app.web", [1, {"n": number}], chunk=f"{number:03}", size=1)

    async with listening(tmp_path, protocol="forward", stream="") as setup:
        numbers = [*range(10), *range(5, 15), 14, 14, 15]
        for _ in range(2):
            peer = await Peer.connect(setup.path)
            peer.send_bytes(*map(single, numbers))
            assert await peer.acks(len(numbers)) == [f"{number:03}" for number in numbers]
            await peer.close()
        assert [row["n"] for row in rows(setup)] == list(range(16))


async def test_a_resend_is_not_answered_before_the_first_one_is_durable(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        setup.sink.durability_held = setup.sink.one_batch = True
        first, second = [await Peer.connect(setup.path) for _ in range(2)]
        message = packed("app.web", [1, {}], chunk="c")
        first.send_bytes(message)
        await setup.sink.until(lambda: setup.sink.records("app.web") == 1)
        second.send_bytes(message)
        receiving = asyncio.create_task(second.receive())
        done, _ = await asyncio.wait([receiving], timeout=0.05)
        assert not done
        setup.sink.make_durable()
        assert await receiving == {"ack": "c"}
        assert await first.receive() == {"ack": "c"}
        assert setup.sink.records("app.web") == 1
        await first.close()
        await second.close()


async def test_an_id_that_is_used_again_for_other_events_loses_nothing(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        peer = await Peer.connect(setup.path)
        peer.send_bytes(
            packed("app.web", [1, {"a": 1}], chunk="1"),
            packed("app.web", [1, {"a": 2}], chunk="1"),
            packed("app.db", [1, {"a": 1}], chunk="1"),
            pack(["app.web", stream_of([1, {"a": 1}]), {"chunk": b"1"}]),
        )
        assert await peer.acks(4) == ["1", "1", "1", b"1"]
        assert [row["a"] for row in rows(setup)] == [1, 2, 1]
        assert len(rows(setup, "app.db")) == 1
        await peer.close()


async def test_events_compressed_anew_are_the_same_chunk(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        peer = await Peer.connect(setup.path)
        data = stream_of([1, {"a": 1}])
        for mtime in (1, 2):
            zipped = gzip.compress(data, mtime=mtime)
            peer.send(["app.web", zipped, {"chunk": "c", "compressed": "gzip"}])
        assert await peer.acks(2) == ["c", "c"]
        assert len(rows(setup)) == 1
        await peer.close()


async def test_without_a_chunk_id_what_is_sent_again_is_stored_again(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        peer = await Peer.connect(setup.path)
        peer.send(["app.web", 1, {}], ["app.web", 1, {}], ["app.web", 1, {}, {"chunk": None}])
        peer.end_writing()
        assert await peer.rest() == [], "and nothing is answered"
        assert len(rows(setup)) == 3
        await peer.close()


# Large messages.


async def test_a_chunk_larger_than_an_append_becomes_several_with_its_progress(
    tmp_path: Path,
) -> None:
    async with listening(
        tmp_path, protocol="forward", stream="", max_record_bytes=100_000
    ) as setup:
        peer = await Peer.connect(setup.path)
        entries = [[n, {"n": n, "x": "x" * 100}] for n in range(10_000)]
        peer.send_bytes(
            packed("app.web", *entries, chunk="large"),
            packed("app.web", [0, {"n": -1}], chunk="next"),
        )
        assert await peer.acks(2) == ["large", "next"]
        assert [row["n"] for row in rows(setup)] == [*range(10_000), -1]
        taken = setup.sink.taken[:-1]
        assert all(len(each.data) <= 100_000 for each in taken)
        progress = [next(iter(each.chunks.values())) for each in taken]
        done = 0
        for each, reached in zip(taken, progress, strict=True):
            done += each.records
            assert reached in (done, WHOLE_CHUNK)
        assert progress[-1] == WHOLE_CHUNK
        assert WHOLE_CHUNK not in progress[:-1]
        await peer.close()


async def test_a_chunk_that_was_stored_in_part_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with listening(
        tmp_path, protocol="forward", stream="", max_record_bytes=100_000
    ) as setup:
        entries = [[n, {"n": n, "x": "x" * 100}] for n in range(10_000)]
        message = packed("app.web", *entries, chunk="large")
        peer = await Peer.connect(setup.path)
        peer.send_bytes(message)
        assert await peer.acks(1) == ["large"]
        # As after a crash: the log knows of the first appends only.
        first = setup.sink.taken[:3]
        (key,) = setup.sink.chunks
        setup.sink.chunks[key] = sum(each.records for each in first)
        del setup.sink.taken[3:]
        peer.send_bytes(message)
        assert await peer.acks(1) == ["large"]
        assert [row["n"] for row in rows(setup)] == list(range(10_000))
        await peer.close()


async def test_a_small_message_that_grows_too_large_is_cut_as_well(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="", max_record_bytes=1000) as setup:
        peer = await Peer.connect(setup.path)
        entries = [[n, {"n": n}] for n in range(200)]
        peer.send_bytes(packed("app.web", *entries, chunk="a"), packed("app.web", [1, {"n": 9}]))
        assert await peer.acks(1) == ["a"]
        peer.end_writing()
        assert await peer.rest() == []
        assert [row["n"] for row in rows(setup)] == [*range(200), 9]
        assert all(len(taken.data) <= 1000 for taken in setup.sink.taken)
        await peer.close()


async def test_others_get_their_turn_while_a_large_message_is_worked_on(tmp_path: Path) -> None:
    async with listening(
        tmp_path, protocol="forward", stream="", max_record_bytes=32 << 20, budget_bytes=256 << 20
    ) as setup:
        large, small = [await Peer.connect(setup.path) for _ in range(2)]
        entries = [[n, {"n": n, "x": "x" * 1000}] for n in range(12_000)]
        message = packed("large", *entries, chunk="large")
        assert len(message) > 20 * SLICE_BYTES
        large.send_bytes(message[:-1])
        await large.writer.drain()
        order: list[str] = []

        async def acked(peer: Peer) -> None:
            order.append((await peer.receive())["ack"])

        waiting = asyncio.create_task(acked(large))
        large.send_bytes(message[-1:])
        await until(lambda: _is_working(setup))
        small.send_bytes(packed("small", [1, {}], chunk="small"))
        await acked(small)
        await waiting
        assert order == ["small", "large"]
        await large.close()
        await small.close()


def _is_working(setup: Setup) -> bool:
    connections: Any = setup.listener._endpoint.connections
    return any(connection._work is not None for connection in connections)


async def test_memory_for_large_messages_is_bounded_over_all_connections(tmp_path: Path) -> None:
    async with listening(
        tmp_path, protocol="forward", stream="", max_record_bytes=1 << 20, budget_bytes=12 << 20
    ) as setup:
        entries = [[n, {"n": n, "x": "x" * 1000}] for n in range(4000)]
        peers = [await Peer.connect(setup.path) for _ in range(6)]
        for number, peer in enumerate(peers):
            peer.send_bytes(packed(f"s{number}", *entries, chunk="c"))
        highest = 0

        async def watch() -> None:
            nonlocal highest
            while True:
                highest = max(highest, setup.budget.held)
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        for number, peer in enumerate(peers):
            assert await peer.acks(1) == ["c"]
            assert [row["n"] for row in rows(setup, f"s{number}")] == list(range(4000))
            await peer.close()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        one = 4 * (1 << 20) + len(packed("s0", *entries)) * 2
        assert highest <= (12 << 20) + one


async def test_a_bomb_is_refused_and_nothing_of_it_is_stored(tmp_path: Path) -> None:
    config = Forward(max_unpacked_bytes=1 << 20)
    async with listening(tmp_path, protocol="forward", stream="", forward=config) as setup:
        bomb = gzip.compress(stream_of(*([1, {"a": "x" * 1000}] for _ in range(20_000))))
        said, log = await refused(
            setup,
            packed("app.web", [1, {}], chunk="1"),
            pack(["app.web", bomb, {"chunk": "2", "compressed": "gzip"}]),
        )
        assert said == [{"ack": "1"}]
        assert log["code"] == "record_too_large"
        assert "max_unpacked_bytes" in log["reason"] and "chunk='2'" in log["reason"]
        assert len(rows(setup)) == 1
        assert setup.rejected("too_large") == 1


# Bad input: nothing of that message is stored, nothing before it is lost.

GOOD = packed("app.web", [1, {"good": 1}], chunk="good")
BAD: dict[str, tuple[bytes, str, str]] = {
    "malformed msgpack": (b"\xc1", "malformed", "malformed"),
    "no message": (b"\x05", "malformed", "malformed"),
    "json": (b'["app.web",1,{}]', "malformed", "malformed"),
    "wrong shape": (pack(["app.web", 1]), "malformed", "malformed"),
    "malformed packed entries": (
        pack(["app.web", b"\xc1", {"chunk": "x"}]),
        "malformed",
        "malformed",
    ),
    "truncated packed entries": (
        pack(["app.web", stream_of([1, {"a": 1}], [2, {"a": 2}])[:-1], {"chunk": "x"}]),
        "malformed",
        "malformed",
    ),
    "truncated packed entries with a size": (
        pack(["app.web", stream_of([1, {"a": 1}], [2, {"a": 2}])[:-1], {"size": 2}]),
        "malformed",
        "malformed",
    ),
    "entry without record": (packed("app.web", [1, {}], [2], chunk="x"), "malformed", "malformed"),
    "record that is no map": (pack(["app.web", 1, "text"]), "malformed", "malformed"),
    "size too small": (packed("app.web", [1, {}], [2, {}], size=1), "malformed", "malformed"),
    "size too large": (packed("app.web", [1, {}], [2, {}], size=3), "malformed", "malformed"),
    "size of nothing": (packed("app.web", size=3), "malformed", "malformed"),
    "size of a message": (pack(["app.web", 1, {}, {"size": 2}]), "malformed", "malformed"),
    "size of an array": (pack(["app.web", [[1, {}]], {"size": 0}]), "malformed", "malformed"),
    "unknown compression": (
        pack(["app.web", b"...", {"compressed": "lz4"}]),
        "unsupported",
        "unsupported",
    ),
    "metrics": (packed("app.web", [1, {}], fluent_signal=1), "unsupported", "unsupported"),
    "damaged gzip": (
        pack(["app.web", gzip.compress(stream_of([1, {}]))[:-1], {"compressed": "gzip"}]),
        "malformed",
        "malformed",
    ),
    "no gzip at all": (
        pack(["app.web", stream_of([1, {}]), {"compressed": "gzip"}]),
        "malformed",
        "malformed",
    ),
    "message too large": (
        pack(["app.web", 1, {"a": "x" * (1 << 20)}]),
        "frame_too_large",
        "too_large",
    ),
    "entry too large": (
        packed("app.web", [1, {}], [1, {"a": "x" * 70_000}], chunk="x"),
        "record_too_large",
        "too_large",
    ),
    "ping without helo": (
        pack(["PING", "host", b"salt", "digest", "", ""]),
        "malformed",
        "malformed",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_ends_the_connection_and_costs_nothing_else(
    tmp_path: Path, name: str
) -> None:
    bad, code, reason = BAD[name]
    config = Forward(max_message_bytes=1 << 20)
    async with listening(
        tmp_path, protocol="forward", stream="", max_record_bytes=65_536, forward=config
    ) as setup:
        for before in (1, 30):
            said, log = await refused(setup, *[GOOD] * before, bad, GOOD)
            assert said == [{"ack": "good"}] * before
            assert log["code"] == code
            assert "\n" not in log["reason"]
        assert rows(setup) == [{"time": EPOCH.format(1), "good": 1}]
        assert setup.rejected(reason) == 2


async def test_an_error_within_a_group_is_told_of_the_message_that_it_is_in(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        messages = [packed("app.web", [n, {"n": n}], chunk=f"c{n}", size=1) for n in range(20)]
        messages[7] = packed("app.web", [7, {"n": 7}], chunk="c7", size=2)
        said, log = await refused(setup, *messages)
        assert said == [{"ack": f"c{n}"} for n in range(7)]
        assert "tag='app.web' chunk='c7'" in log["reason"]
        assert [row["n"] for row in rows(setup)] == list(range(7))


# Back-pressure.


async def test_a_full_log_stops_reading_and_loses_nothing(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        setup.sink.room = False
        peer = await Peer.connect(setup.path)
        for number in range(3000):
            peer.send_bytes(packed("app.web", [number, {"n": number, "x": "x" * 500}], chunk="c"))
        await setup.sink.until(setup.sink.waits_for_room)
        assert setup.sink.taken == []
        assert setup.budget.held <= 256 << 10
        setup.sink.make_room()
        assert len(await peer.acks(3000)) == 3000
        assert [row["n"] for row in rows(setup)] == list(range(3000))
        await peer.close()


async def test_a_log_that_refuses_ends_the_connection(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        setup.sink.refuse_all = Rejected("wal_full", "the WAL is full", permanent=False)
        said, log = await refused(setup, GOOD)
        assert said == []
        assert log["code"] == "wal_full"
        assert setup.rejected("wal_full") == 1


async def test_a_peer_that_does_not_read_its_acknowledgements_is_not_read_from(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, str(setup.path))
        message = pack(["app.web", 1, {}, {"chunk": "c" * 1000}])
        total = 4000
        sending = asyncio.create_task(loop.sock_sendall(connection, message * total))
        await until(lambda: _is_not_read_by(setup))
        assert not sending.done()
        received = b""
        while len(received) < total * len(pack({"ack": "c" * 1000})):
            received += await loop.sock_recv(connection, 1 << 20)
        await sending
        assert received == pack({"ack": "c" * 1000}) * total
        connection.close()


SMALL_CHUNKS = {
    "nothing": pack(["app.web", [], {"chunk": "c" * 1000}]),
    "known": packed("app.web", [1, {}], chunk="c" * 1000),
}


@pytest.mark.parametrize("kind", SMALL_CHUNKS)
async def test_acknowledgements_that_wait_for_the_disk_are_bounded(
    tmp_path: Path, kind: str
) -> None:
    """Messages that add nothing to the log are not held back by what the log has room for."""
    async with listening(tmp_path, protocol="forward", stream="") as setup:
        setup.sink.durability_held = setup.sink.one_batch = True
        total = 8000
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, str(setup.path))
            first = packed("app.web", [1, {}], chunk="c" * 1000)
            messages = first + SMALL_CHUNKS[kind] * (total - 1)
            sending = asyncio.create_task(loop.sock_sendall(connection, messages))
            await until(lambda: _waits_for(setup, Wait.REQUESTS))
            (forward,) = setup.listener._endpoint.connections
            assert isinstance(forward, ForwardConnection)
            assert sum(len(acks) for _, acks in forward._due) <= (1 << 20) + LARGEST
            assert not sending.done()
            setup.sink.durability_held = setup.sink.one_batch = False
            setup.sink.make_durable()
            expected = pack({"ack": "c" * 1000}) * total
            received = bytearray()
            async with asyncio.timeout(60):
                while len(received) < len(expected):
                    received += await loop.sock_recv(connection, 1 << 20)
            await sending
            assert received == expected
            assert len(rows(setup)) == 1


def _is_not_read_by(setup: Setup) -> bool:
    return _waits_for(setup, Wait.OUTPUT)


def _waits_for(setup: Setup, wait: Wait) -> bool:
    connections: Any = setup.listener._endpoint.connections
    return any(wait in connection._waits for connection in connections)


# The handshake.

SECRET = Forward(shared_key="open sesame", hostname="agent-1")
WITH_USERS = Forward(
    shared_key="open sesame",
    users=(ForwardUser(name="web", password="p1"), ForwardUser(name="db", password="p2")),
)


def sha512(*parts: str | bytes) -> str:
    raw = [part.encode() if isinstance(part, str) else part for part in parts]
    return hashlib.sha512(b"".join(raw)).hexdigest()


async def greeted(
    setup: Setup, key: str = "open sesame", user: str = "", password: str = "", salt: Any = b"salt"
) -> tuple[Peer, Any, bytes]:
    """A peer that has said PING, the PONG, and the nonce."""
    peer = await Peer.connect(setup.path)
    helo, options = await peer.receive()
    assert helo == "HELO"
    assert options["keepalive"] is True
    nonce, auth = options["nonce"], options["auth"]
    digest = sha512(salt, "peer-1", nonce, key)
    secret = sha512(auth, user, password) if auth else ""
    peer.send(["PING", "peer-1", salt, digest, user, secret])
    return peer, await peer.receive(), nonce


async def test_a_peer_that_knows_the_key_is_let_in_and_told_so(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="", forward=SECRET) as setup:
        for salt in (b"\xffsalt", "text"):
            peer, pong, nonce = await greeted(setup, salt=salt)
            digest = sha512(salt, "agent-1", nonce, "open sesame")
            assert pong == ["PONG", True, "", "agent-1", digest]
            peer.send_bytes(GOOD)
            assert await peer.acks(1) == ["good"]
            await peer.close()


async def test_nonces_differ(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="", forward=SECRET) as setup:
        nonces = set()
        for _ in range(5):
            peer, _, nonce = await greeted(setup)
            nonces.add(nonce)
            await peer.close()
        assert len(nonces) == 5
        assert all(len(nonce) == 16 for nonce in nonces)


async def test_users_are_told_by_their_passwords(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="", forward=WITH_USERS) as setup:
        for user, password in (("web", "p1"), ("db", "p2")):
            peer, pong, _ = await greeted(setup, user=user, password=password)
            assert pong[1] is True
            await peer.close()


@pytest.mark.parametrize(
    ("config", "claim", "reason"),
    [
        (SECRET, {"key": "wrong"}, "shared key does not match"),
        (WITH_USERS, {"user": "web", "password": "p2"}, "user name or password does not match"),
        (WITH_USERS, {"user": "nobody", "password": ""}, "user name or password does not match"),
        (WITH_USERS, {}, "user name or password does not match"),
    ],
)
async def test_who_does_not_know_is_told_so_and_gets_nothing_in(
    tmp_path: Path, config: Forward, claim: dict[str, str], reason: str
) -> None:
    async with listening(tmp_path, protocol="forward", stream="", forward=config) as setup:
        with capture_logs() as logs:
            peer, pong, _ = await greeted(setup, **claim)
            assert pong == ["PONG", False, reason, "", ""]
            peer.send_bytes(GOOD)
            assert await peer.rest() == []
            await peer.close()
        (log,) = [entry for entry in logs if entry["event"] == "connection ends"]
        assert log["code"] == "unauthorized"
        assert "peer-1" in log["reason"] and "sesame" not in str(logs)
        assert setup.sink.taken == []
        assert setup.rejected("unauthorized") == 1


async def test_events_before_the_handshake_are_refused(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="", forward=SECRET) as setup:
        said, log = await refused(setup, GOOD)
        assert [message[0] for message in said] == ["HELO"]
        assert log["code"] == "unauthorized"
        assert setup.sink.taken == []


async def test_the_handshake_is_made_once(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="forward", stream="", forward=SECRET) as setup:
        peer, pong, _ = await greeted(setup)
        assert pong[1] is True
        peer.send_bytes(GOOD)
        peer.send(["PING", "peer-1", b"", "", "", ""])
        assert await peer.rest() == [{"ack": "good"}]
        await peer.close()
        assert setup.rejected("malformed") == 1


# Formats, as configured.


async def test_configured_formats_reach_the_stream(tmp_path: Path) -> None:
    entry = [event_time(1, 5), {"log": "text", "x": 1}]
    for config, expected in (
        (Forward(time_key="@t", tag_key="tag"), None),
        (Forward(message_key="log"), b"text\n"),
        (Forward(format="msgpack"), pack(entry)),
    ):
        async with listening(tmp_path, protocol="forward", stream="s", forward=config) as setup:
            peer = await Peer.connect(setup.path)
            peer.send_bytes(packed("app", entry, chunk="c"))
            assert await peer.acks(1) == ["c"]
            content = setup.sink.content("s")
            if expected is None:
                time = "1970-01-01T00:00:01.000000005Z"
                assert json.loads(content) == {"@t": time, "tag": "app", "log": "text", "x": 1}
            else:
                assert content == expected
            await peer.close()
