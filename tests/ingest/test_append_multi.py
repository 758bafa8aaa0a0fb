"""Appends to several streams over real sockets: all parts together, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_agent.ingest.sink import Mark, Rejected
from support.listening import listening
from support.wire import Wire


async def test_all_parts_are_one_append_of_one_batch(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path, "p")
        wire.send("multi", 3, [["a", 2], ["b", 0], ["c", 3]], b"aaccc")
        assert await wire.receive() == ["ack", 3, {"a": 2, "c": 3}]
        assert [taken.stream for taken in setup.sink.taken] == ["a", "c"]
        assert {taken.mark for taken in setup.sink.taken} == {Mark("p", 3)}
        assert setup.sink.durable_batch == 1, "one batch"
        assert (setup.sink.content("a"), setup.sink.content("c")) == (b"aa", b"ccc")
        assert setup.metric("received_records_total", protocol="append") == 1
        assert setup.metric("acked_records_total", protocol="append") == 1
        assert setup.metric("received_bytes_total", protocol="append") == 5
        await wire.close()


async def test_a_large_one_is_passed_on_without_a_copy(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("multi", 1, [["a", 400_000], ["b", 400_000]], b"a" * 400_000 + b"b" * 400_000)
        wire.send("append", 2, "c", b"c" * 900_000)
        await wire.receive_until("ack", 2)
        assert all(isinstance(taken.data, memoryview) for taken in setup.sink.taken)
        assert setup.sink.content("a") == b"a" * 400_000
        assert setup.sink.content("b") == b"b" * 400_000
        await wire.close()


@pytest.mark.parametrize(
    ("parts", "data", "code"),
    [
        ([["a", 1], ["/", 1]], b"ab", "bad_stream"),
        ([["a", 60], ["b", 60]], bytes(120), "record_too_large"),
        ([["a", 1], ["full", 1]], b"ab", "too_many_streams"),
        ([["a", 1, 0], ["b", 1, 7]], b"ab", "position_mismatch"),
    ],
)
async def test_one_part_that_is_refused_refuses_all(
    tmp_path: Path, parts: list[object], data: bytes, code: str
) -> None:
    async with listening(tmp_path, max_record_bytes=100) as setup:
        setup.sink.refusals["full"] = Rejected("too_many_streams", "no", permanent=True)
        wire = await Wire.connect(setup.path)
        wire.send("multi", 1, parts, data)
        assert (await wire.receive())[:2] == ["error", code]
        if code == "position_mismatch":
            wire.send("resume", 1)
        wire.send("append", 2, "a", b"x")
        assert await wire.receive() == ["ack", 2, {"a": 1}]
        assert [taken.stream for taken in setup.sink.taken] == ["a"]
        await wire.close()


async def test_an_unknown_acknowledgement_refuses_all(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("multi", 1, [["a", 1]], b"x", "disk")
        assert (await wire.receive())[:2] == ["error", "bad_ack"]
        await wire.close()


async def test_a_refusal_names_every_stream_that_is_elsewhere(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.positions |= {"a": 1, "b": 2, "c": 3}
        wire = await Wire.connect(setup.path)
        wire.send("multi", 1, [["a", 1, 0], ["b", 1, 2], ["c", 1, 9], ["d", 1]], b"abcd")
        error = await wire.receive()
        assert error[1] == "position_mismatch"
        assert error[3:] == [1, {"a": 1, "c": 3}]
        wire.send("multi", 2, [["a", 1, 1]], b"skipped")
        wire.send("resume", 1)
        wire.send("multi", 2, [["a", 1, 1], ["b", 1, 2], ["c", 1, 3]], b"abc")
        assert await wire.receive() == ["ack", 2, {"a": 2, "b": 3, "c": 4}]
        await wire.close()


async def test_a_resend_is_known_as_a_whole(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        first = await Wire.connect(setup.path, "p")
        first.send("multi", 1, [["a", 1, 0], ["b", 1, 0]], b"ab")
        await first.receive_until("ack", 1)
        await first.close()
        again = await Wire.connect(setup.path, "p")
        again.send("multi", 1, [["a", 1, 0], ["b", 1, 0]], b"ab", "store")
        assert (await again.receive())[:2] == ["ack", 1]
        assert (await again.receive())[:2] == ["stored", 1]
        assert sorted(filter(None, setup.sink.flushes)) == ["a", "b"]
        assert len(setup.sink.taken) == 2
        assert setup.metric("deduplicated_records_total") == 1
        await again.close()


async def test_stored_comes_when_the_store_has_every_part(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.store_held = True
        wire = await Wire.connect(setup.path)
        wire.send("multi", 1, [["a", 1], ["b", 2]], b"abb", "store")
        assert (await wire.receive())[0] == "ack"
        await setup.sink.until(lambda: len(setup.sink.stored_asked) == 2)
        setup.sink.make_one_stored()
        wire.send("status", 1)
        assert (await wire.receive())[0] == "status", "one of two is not enough"
        setup.sink.make_stored()
        assert await wire.receive() == ["stored", 1, {"a": 1, "b": 2}]
        await wire.close()


async def test_one_of_nothing_is_acknowledged_in_its_turn(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("multi", 1, [["a", 0], ["b", 0, 0]], b"")
        assert await wire.receive() == ["ack", 1, {}]
        assert not setup.sink.taken
        await wire.close()
