"""Protocol lines over real sockets."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from hf_agent.config import Lines
from hf_agent.ingest.endpoint import FIRST_LINE
from hf_agent.ingest.sink import Rejected
from support.lines_client import LinesClient
from support.listening import listening


async def test_lines_are_kept_byte_for_byte_and_end_of_file_acknowledges_them(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, protocol="lines") as setup:
        setup.sink.durability_held = True
        client = await LinesClient.connect(setup.path)
        text = b"one\n\ntwo \xff\x00\r\nlast without newline"
        client.writer.write(text)
        client.writer.write_eof()
        await setup.sink.until(lambda: setup.sink.content("app") == text)
        waiting = asyncio.create_task(client.answer())
        await asyncio.sleep(0.01)
        assert not waiting.done(), "not durable yet"
        setup.sink.make_durable()
        assert await waiting == b""
        assert setup.sink.records("app") == 4
        assert setup.metric("received_records_total", protocol="lines") == 4
        assert setup.metric("received_bytes_total", protocol="lines") == len(text)
        assert setup.metric("acked_records_total", protocol="lines") == 4
        client.close()


async def test_lines_are_taken_as_they_come_without_waiting_for_the_end(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines") as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\ntw")
        await setup.sink.until(lambda: setup.sink.content("app") == b"one\n")
        client.writer.write(b"o\n")
        await setup.sink.until(lambda: setup.sink.content("app") == b"one\ntwo\n")
        client.close()


async def test_any_cuts_give_the_same_lines_in_order(tmp_path: Path) -> None:
    rng = random.Random(3)
    async with listening(tmp_path, protocol="lines", max_record_bytes=150_000) as setup:
        text = b"".join(
            rng.randbytes(rng.choice((1, 50, 3000, 100_000))).replace(b"\n", b".") + b"\n"
            for _ in range(150)
        )
        client = await LinesClient.connect(setup.path)
        await client.send_in_pieces(text, rng)
        assert await client.answer() == b""
        assert setup.sink.content("app") == text
        assert setup.sink.records("app") == 150
        assert all(len(taken.data) <= 150_000 for taken in setup.sink.taken)
        client.close()


async def test_a_client_that_leaves_without_waiting_loses_nothing(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines") as setup:
        setup.sink.room = False
        client = await LinesClient.connect(setup.path)
        text = b"line\n" * 5000 + b"last"
        client.writer.write(text)
        await client.writer.drain()
        client.close()
        await setup.sink.until(setup.sink.waits_for_room)
        setup.sink.make_room()
        await setup.sink.until(lambda: setup.sink.content("app") == text)


async def test_a_line_over_the_limit_cuts_the_client_off_after_what_came_before(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, protocol="lines", max_record_bytes=1000) as setup:
        bystander = await LinesClient.connect(setup.path)
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"good\n" + b"x" * 1000 + b"\nlater\n")
        client.writer.write_eof()
        said = await client.answer()
        assert said.startswith(b"error record_too_large: ")
        assert setup.sink.content("app") == b"good\n"
        assert setup.rejected("too_large") == 1
        bystander.writer.write(b"fine\n")
        bystander.writer.write_eof()
        assert await bystander.answer() == b""
        assert setup.sink.content("app") == b"good\nfine\n"
        client.close()
        bystander.close()


async def test_an_endless_line_is_cut_off_with_bounded_memory(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines", max_record_bytes=1 << 20) as setup:
        client = await LinesClient.connect(setup.path)
        most = 0
        try:
            while not client.reader.at_eof():
                client.writer.write(b"x" * 65536)
                await client.writer.drain()
                most = max(most, setup.budget.held)
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        assert most <= (1 << 20) + 1
        assert not setup.sink.taken
        assert setup.rejected("too_large") == 1
        client.close()


async def test_the_first_line_names_the_stream_where_config_asks_for_it(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines", stream=FIRST_LINE) as setup:
        for name in ("app/web", "app/db"):
            client = await LinesClient.connect(setup.path)
            client.writer.write(name.encode() + b"\n" + name.encode() + b" says\n")
            client.writer.write_eof()
            assert await client.answer() == b""
            assert setup.sink.content(name) == name.encode() + b" says\n"
            client.close()


@pytest.mark.parametrize("first", [b"../etc\n", b"\n", b"x" * 5000])
async def test_a_bad_name_in_the_first_line_is_refused(tmp_path: Path, first: bytes) -> None:
    async with listening(tmp_path, protocol="lines", stream=FIRST_LINE) as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(first + b"line\n")
        client.writer.write_eof()
        assert (await client.answer()).startswith(b"error bad_stream: ")
        assert not setup.sink.taken
        assert setup.rejected("bad_stream") == 1
        client.close()


async def test_half_a_name_is_dropped_and_counted(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines", stream=FIRST_LINE) as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"app")
        client.writer.write_eof()
        await client.answer()
        assert setup.rejected("incomplete") == 1
        client.close()


@pytest.mark.parametrize("code", ["wal_full", "wal_failed", "too_many_streams"])
async def test_what_the_sink_refuses_ends_the_connection(tmp_path: Path, code: str) -> None:
    async with listening(tmp_path, protocol="lines") as setup:
        setup.sink.refuse_all = Rejected(code, "no", permanent=code == "too_many_streams")
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\ntwo\n")
        client.writer.write_eof()
        assert (await client.answer()).startswith(f"error {code}: no\n".encode())
        assert setup.rejected(code) == 2
        client.close()


async def test_a_client_waits_while_the_sink_has_no_room(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines") as setup:
        setup.sink.room = False
        client = await LinesClient.connect(setup.path)
        text = b"0123456789\n" * 200_000
        client.writer.write(text)
        client.writer.write_eof()
        await setup.sink.until(setup.sink.waits_for_room)
        assert client.writer.transport.get_write_buffer_size() > 1_000_000
        setup.sink.make_room()
        assert await client.answer() == b""
        assert setup.sink.content("app") == text
        client.close()


async def test_a_stop_keeps_the_whole_lines_and_does_not_acknowledge(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines") as setup:
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"whole\nhal")
        await setup.sink.until(lambda: setup.sink.content("app") == b"whole\n")
        await setup.listener.close(5.0)
        said = await client.answer()
        assert said.startswith(b"error shutting_down: ") and said.endswith(b"RESET")
        assert setup.sink.content("app") == b"whole\n"
        assert setup.rejected("incomplete") == 1
        client.close()


async def test_a_stop_waits_for_what_a_client_has_ended(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="lines") as setup:
        setup.sink.durability_held = True
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"whole\nrest")
        client.writer.write_eof()
        await setup.sink.until(lambda: setup.sink.records("app") == 2)
        closing = asyncio.create_task(setup.listener.close(10.0))
        await asyncio.sleep(0.01)
        assert not closing.done()
        setup.sink.make_durable()
        await closing
        assert await client.answer() == b""
        client.close()


@pytest.mark.parametrize("config", [Lines(say_ok=True), Lines(say_ok=True, format="json")])
async def test_ok_is_said_when_all_is_durable_and_end_of_file_follows(
    tmp_path: Path, config: Lines
) -> None:
    async with listening(tmp_path, protocol="lines", lines=config) as setup:
        setup.sink.durability_held = True
        client = await LinesClient.connect(setup.path)
        client.writer.write(b"one\ntwo")
        client.writer.write_eof()
        await setup.sink.until(lambda: setup.sink.records("app") == 2)
        waiting = asyncio.create_task(client.answer())
        await asyncio.sleep(0.01)
        assert not waiting.done(), "not durable yet"
        setup.sink.make_durable()
        assert await waiting == b"ok\n"
        client.close()


async def test_ok_is_not_said_to_who_is_refused_or_stopped(tmp_path: Path) -> None:
    config = Lines(say_ok=True)
    async with listening(tmp_path, protocol="lines", lines=config, max_record_bytes=100) as setup:
        refused = await LinesClient.connect(setup.path)
        refused.writer.write(b"x" * 200)
        refused.writer.write_eof()
        said = await refused.answer()
        assert said.startswith(b"error record_too_large") and b"ok" not in said
        stopped = await LinesClient.connect(setup.path)
        stopped.writer.write(b"one\n")
        await setup.sink.until(lambda: setup.sink.records("app") == 1)
        answer = asyncio.create_task(stopped.answer())
        await setup.listener.close(5.0)
        said = await answer
        assert said.startswith(b"error shutting_down") and b"ok" not in said
        refused.close()
        stopped.close()
