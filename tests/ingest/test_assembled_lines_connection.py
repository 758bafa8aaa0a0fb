"""Protocol lines with stages, over real sockets."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from hf_agent.config import Lines
from hf_agent.ingest.assembled_lines_connection import AssembledLinesConnection
from hf_agent.ingest.endpoint import FIRST_LINE
from hf_agent.ingest.sink import Rejected
from support.assembled import message_of, objects, split_lines
from support.lines_client import LinesClient
from support.listening import Setup, listening
from support.manual_clock import ManualClock

JOIN = Lines(start_pattern=r"\S")
JOIN_JSON = Lines(start_pattern=r"\S", format="json")


def messages(stored: bytes) -> list[bytes]:
    return [message_of(line) for line in objects(stored)]


async def until_held(setup: Setup, nbytes: int) -> None:
    """Return when so many bytes wait in the open groups of the one connection."""
    async with asyncio.timeout(20):
        while not any(
            isinstance(connection, AssembledLinesConnection) and connection.waiting == nbytes
            for connection in setup.listener._endpoint.connections
        ):
            await asyncio.sleep(0.001)


async def test_json_says_when_a_line_came_and_from_which_process_and_user(tmp_path: Path) -> None:
    clock = ManualClock()
    async with listening(
        tmp_path, protocol="lines", lines=Lines(format="json"), clock=clock
    ) as setup:
        setup.sink.durability_held = True
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\ntwo")
        client.writer.write_eof()
        await setup.sink.until(lambda: setup.sink.records("app") == 2)
        assert objects(setup.sink.content("app")) == [
            {
                "time": "1970-01-01T00:16:40.000000000Z",
                "pid": os.getpid(),
                "uid": os.getuid(),
                "message": message,
            }
            for message in ("one", "two")
        ]
        waiting = asyncio.create_task(client.answer())
        await asyncio.sleep(0.01)
        assert not waiting.done(), "not durable yet"
        setup.sink.make_durable()
        assert await waiting == b""
        assert setup.metric("received_records_total", protocol="lines") == 2
        stored = len(setup.sink.content("app"))
        assert setup.metric("received_bytes_total", protocol="lines") == stored
        assert setup.metric("acked_records_total", protocol="lines") == 2
        client.close()


async def test_the_first_line_names_the_stream_and_is_not_wrapped(tmp_path: Path) -> None:
    async with listening(
        tmp_path, protocol="lines", stream=FIRST_LINE, lines=Lines(format="json")
    ) as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"app/web\nhello\n")
        client.writer.write_eof()
        assert await client.answer() == b""
        assert messages(setup.sink.content("app/web")) == [b"hello"]
        client.close()


async def test_half_a_name_is_dropped_and_counted_also_with_stages(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines", stream=FIRST_LINE, lines=JOIN) as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"app")
        client.writer.write_eof()
        await client.answer()
        assert setup.rejected("incomplete") == 1
        client.close()


async def test_a_group_is_one_append_and_end_of_file_ends_the_last(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines", lines=JOIN) as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\n a\n")
        await client.writer.drain()
        await until_held(setup, 7)
        assert setup.sink.taken == []
        client.writer.write(b" b\ntwo\n")
        await setup.sink.until(lambda: setup.sink.content("app") == b"one\n a\n b\n")
        client.writer.write(b" c")
        client.writer.write_eof()
        assert await client.answer() == b""
        assert [bytes(taken.data) for taken in setup.sink.taken] == [
            b"one\n a\n b\n",
            b"two\n c",
        ]
        assert setup.metric("joined_records_total", stage="multiline", ended_by="complete") == 1
        assert setup.metric("joined_records_total", stage="multiline", ended_by="end") == 1
        client.close()


async def test_a_group_that_waits_is_appended_when_its_time_is_over(tmp_path: Path) -> None:
    clock = ManualClock()
    async with listening(tmp_path, protocol="lines", lines=JOIN, clock=clock) as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\n a\n")
        await clock.until_asleep()
        await clock.advance(0.9)
        assert setup.sink.taken == []
        await clock.advance(0.1)
        assert setup.sink.content("app") == b"one\n a\n"
        assert setup.metric("joined_records_total", stage="multiline", ended_by="time") == 1
        # And so is the next one, for which the clock starts anew.
        client.writer.write(b"two\n")
        await clock.until_asleep()
        await clock.advance(1.0)
        assert setup.sink.content("app") == b"one\n a\ntwo\n"
        client.writer.write_eof()
        assert await client.answer() == b""
        client.close()


async def test_a_group_whose_time_is_over_while_nothing_is_taken_follows_as_soon_as_it_can(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with listening(tmp_path, protocol="lines", lines=JOIN, clock=clock) as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\n")
        await clock.until_asleep()
        setup.sink.room = False
        await clock.advance(5.0)
        assert setup.sink.waits_for_room()
        assert setup.sink.taken == []
        setup.sink.make_room()
        await setup.sink.until(lambda: setup.sink.content("app") == b"one\n")
        client.close()


@pytest.mark.parametrize("config", [JOIN, JOIN_JSON], ids=["raw", "json"])
async def test_any_cuts_and_stalls_give_the_same_groups_in_order(
    tmp_path: Path, config: Lines
) -> None:
    seed = 5
    rng = random.Random(seed)
    starts, sizes = (b"\n ", b"\n ", b"\ns"), (0, 30, 5000)
    text = b"".join(
        rng.choice(starts) + rng.randbytes(rng.choice(sizes)).hex().encode() for _ in range(800)
    )
    async with listening(tmp_path, protocol="lines", lines=config) as setup:
        client = await LinesClient.connect(setup.path)
        sending = asyncio.create_task(client.send_in_pieces(text, rng))
        for _ in range(20):
            setup.sink.room = False
            await setup.sink.until(lambda: setup.sink.waits_for_room() or sending.done())
            setup.sink.make_room()
            await asyncio.sleep(0)
        await sending
        assert await client.answer() == b"", f"seed={seed}"
        stored = setup.sink.content("app")
        if config.format == "json":
            stored = b"\n".join(messages(stored))
        assert stored == text, f"seed={seed}"
        groups = setup.metric("joined_records_total", stage="multiline", ended_by="complete")
        assert groups >= sum(line.startswith(b"s") for line in split_lines(text)) - 1
        client.close()


async def test_a_client_that_leaves_without_waiting_loses_no_open_group(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines", lines=JOIN) as setup:
        setup.sink.room = False
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\n a\ntwo\n b")
        await client.writer.drain()
        client.close()
        await setup.sink.until(setup.sink.waits_for_room)
        setup.sink.make_room()
        await setup.sink.until(lambda: setup.sink.content("app") == b"one\n a\ntwo\n b")


async def test_a_line_over_the_limit_cuts_the_client_off_after_the_open_group(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, protocol="lines", lines=JOIN, max_record_bytes=1000) as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\n a\n" + b"x" * 1000 + b"\nlater\n")
        client.writer.write_eof()
        assert (await client.answer()).startswith(b"error record_too_large: ")
        assert setup.sink.content("app") == b"one\n a\n"
        assert setup.rejected("too_large") == 1
        client.close()


@pytest.mark.parametrize("last", [b"\n", b""])
async def test_a_line_that_becomes_too_large_in_json_cuts_the_client_off(
    tmp_path: Path, last: bytes
) -> None:
    for config in (Lines(format="json"), JOIN_JSON):
        async with listening(
            tmp_path, protocol="lines", lines=config, max_record_bytes=3000
        ) as setup:
            client = await LinesClient.connect(setup.path)
            client.writer.write(b"good\n" + b"x\x01" * 900 + last)
            client.writer.write_eof()
            said = await client.answer()
            assert said.startswith(b"error record_too_large: line becomes a record over the limit")
            assert said.endswith(b"RESET")
            assert messages(setup.sink.content("app")) == [b"good"]
            assert setup.rejected("too_large") == 1
            client.close()


async def test_a_stop_keeps_the_open_group_and_does_not_acknowledge(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines", lines=JOIN) as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\n a\nhal")
        await until_held(setup, 7)
        answer = asyncio.create_task(client.answer())
        await setup.listener.close(5.0)
        said = await answer
        assert said.startswith(b"error shutting_down: ") and said.endswith(b"RESET")
        assert setup.sink.content("app") == b"one\n a\n"
        assert setup.rejected("incomplete") == 1
        client.close()


async def test_a_stop_waits_for_room_to_keep_the_open_group(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines", lines=JOIN) as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\n a\n")
        await until_held(setup, 7)
        setup.sink.room = False
        answer = asyncio.create_task(client.answer())
        closing = asyncio.create_task(setup.listener.close(20.0))
        await setup.sink.until(setup.sink.waits_for_room)
        setup.sink.make_room()
        await closing
        assert (await answer).startswith(b"error shutting_down: ")
        assert setup.sink.content("app") == b"one\n a\n"
        client.close()


@pytest.mark.parametrize("code", ["wal_full", "wal_failed", "too_many_streams"])
async def test_what_the_sink_refuses_ends_the_connection(tmp_path: Path, code: str) -> None:
    async with listening(tmp_path, protocol="lines", lines=JOIN) as setup:
        setup.sink.refuse_all = Rejected(code, "no", permanent=code == "too_many_streams")
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\ntwo\nthree\n")
        client.writer.write_eof()
        assert (await client.answer()).startswith(f"error {code}: no\n".encode())
        assert setup.sink.taken == []
        assert setup.rejected(code) == 2
        client.close()


async def test_groups_end_early_when_there_is_no_memory_for_them(tmp_path: Path) -> None:
    config = Lines(start_pattern="start", max_group_lines=100_000)
    text = b"start\n" + b" more of it\n" * 20_000
    async with listening(
        tmp_path, protocol="lines", lines=config, max_record_bytes=30_000, budget_bytes=100_000
    ) as setup:
        others = [await LinesClient.connect(setup.path) for _ in range(8)]
        for other in others:
            # An open group that is as large as it may be.
            other.writer.write(b"start\n" + b" x\n" * 9000)
            await other.writer.drain()
        client = await LinesClient.connect(setup.path)
        client.writer.write(text)
        client.writer.write_eof()
        assert await client.answer() == b""
        for other in others:
            other.writer.write_eof()
            assert await other.answer() == b""
            other.close()
        assert setup.metric("joined_records_total", stage="multiline", ended_by="memory") > 0
        stored = setup.sink.content("app")
        assert stored.count(b" more of it\n") == 20_000
        assert stored.count(b" x\n") == 8 * 9000
        client.close()


async def test_parts_of_containers_lines_are_joined(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines", lines=Lines(cri=True)) as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"2026 stdout P a\nno such line\n2026 stdout F b\n2026 stderr P c\n")
        client.writer.write_eof()
        assert await client.answer() == b""
        assert setup.sink.content("app") == (b"no such line\n2026 stdout F ab\n2026 stderr P c\n")
        assert setup.metric("malformed_lines_total", format="cri") == 1
        assert setup.metric("joined_records_total", stage="cri", ended_by="end") == 1
        client.close()
