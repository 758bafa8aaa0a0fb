"""Protocol syslog over real sockets, of both kinds."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hf_agent.config import Syslog
from hf_agent.ingest.datagram_queue import queue_length
from hf_agent.ingest.sink import Rejected
from support.listening import Setup, listening

DATAGRAM = Syslog(socket="datagram")


@contextmanager
def sender(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.connect(str(path))
        sending.setblocking(False)
        yield sending


async def send(setup: Setup, wire: bytes) -> bytes:
    """Send all over a stream socket, end, and return what the agent says before it closes."""
    reader, writer = await asyncio.open_unix_connection(str(setup.path))
    writer.write(wire)
    writer.write_eof()
    said = b""
    async with asyncio.timeout(20):
        try:
            while chunk := await reader.read(1000):
                said += chunk
        except ConnectionError:
            said += b"RESET"
    writer.close()
    return said


@pytest.mark.parametrize(
    ("wire", "stored", "records"),
    [
        (b"<1>a\n<1>b\n", b"<1>a\n<1>b\n", 2),
        (b"4 <1>a4 <1>b<1>c\n<1>d", b"<1>a\n<1>b\n<1>c\n<1>d\n", 4),
        (b"7 <1>a\nb\\<1>c\0<1>d\\n\n", b"\\<1>a\\nb\\\\\n<1>c\n<1>d\\n\n", 3),
        (b"\\x\ngarbage \xff\n9 cut", b"\\\\\\x\ngarbage \xff\n\\cut\\c\n", 3),
    ],
)
async def test_messages_are_stored_raw_one_a_line_and_end_of_file_acknowledges_them(
    tmp_path: Path, wire: bytes, stored: bytes, records: int
) -> None:
    async with listening(tmp_path, protocol="syslog") as setup:
        assert await send(setup, wire) == b""
        assert setup.sink.content("app") == stored
        assert setup.sink.records("app") == records
        for name in ("received_records_total", "acked_records_total"):
            assert setup.metric(name, protocol="syslog") == records


async def test_octets_keep_messages_byte_for_byte(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="syslog", syslog=Syslog(raw_framing="octets")) as setup:
        assert await send(setup, b"6 <1>a\nb<1>c\n") == b""
        assert setup.sink.content("app") == b"6 <1>a\nb4 <1>c"


async def test_a_message_over_the_limit_is_stored_in_parts(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="syslog", max_record_bytes=2512) as setup:
        assert await send(setup, b"<1>" + b"x" * 2000 + b"\n<1>y\n") == b""
        parts = b"\\<1>" + b"x" * 997 + b"\\c\n\\" + b"x" * 1000 + b"\\c\n\\xxx\n<1>y\n"
        assert setup.sink.content("app") == parts
        assert all(len(taken.data) <= 2512 for taken in setup.sink.taken)
        assert setup.metric("syslog_flawed_records_total", flaw="partial") == 1


async def test_json_parts_say_which_they_are(tmp_path: Path) -> None:
    async with listening(
        tmp_path, protocol="syslog", max_record_bytes=2048, syslog=Syslog(format="json")
    ) as setup:
        text = b"<14>" + b"\x01" * 600
        assert await send(setup, text + b"\n") == b""
        rows = [json.loads(line) for line in setup.sink.content("app").splitlines()]
        assert [(row["part"], row["more"]) for row in rows] == [(1, True), (2, True), (3, False)]
        assert "".join(row["raw"] for row in rows).encode() == text
        assert all(len(taken.data) <= 2048 for taken in setup.sink.taken)


async def test_each_message_goes_to_the_stream_that_its_fields_name(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="syslog", stream="log/{app_name}") as setup:
        setup.sink.refusals["log/many"] = Rejected("too_many_streams", "no", permanent=True)
        wire = b"<14>web: 1\n<14>db[3]: 2\n<14>web: 3\n<14>no app\n<14>a/b: c\nx\n<14>many: 4\n"
        assert await send(setup, wire) == b""
        assert setup.sink.content("log/web") == b"<14>web: 1\n<14>web: 3\n"
        assert setup.sink.content("log/db") == b"<14>db[3]: 2\n"
        assert setup.sink.content("syslog-fallback") == (
            b"<14>no app\n<14>a/b: c\nx\n<14>many: 4\n"
        )
        assert setup.metric("syslog_flawed_records_total", flaw="fallback") == 4
        assert setup.metric("syslog_flawed_records_total", flaw="unparsed") == 1


async def test_streams_by_facility(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="syslog", stream="{facility}") as setup:
        assert await send(setup, b"<86>x\n<191>y\n") == b""
        assert setup.sink.content("authpriv") == b"<86>x\n"
        assert setup.sink.content("local7") == b"<191>y\n"


@pytest.mark.parametrize("stream", ["app", "{app_name}"])
async def test_a_sender_waits_while_the_sink_has_no_room(tmp_path: Path, stream: str) -> None:
    async with listening(tmp_path, protocol="syslog", stream=stream) as setup:
        setup.sink.room = False
        wire = b"<14>app: 0123456789\n" * 100_000
        sending = asyncio.create_task(send(setup, wire))
        await setup.sink.until(setup.sink.waits_for_room)
        assert not sending.done()
        setup.sink.make_room()
        assert await sending == b""
        assert setup.sink.content("app") == wire


@pytest.mark.parametrize("stream", ["app", "{app_name}"])
async def test_what_the_sink_refuses_ends_the_connection_without_acknowledgement(
    tmp_path: Path, stream: str
) -> None:
    async with listening(tmp_path, protocol="syslog", stream=stream) as setup:
        setup.sink.refuse_all = Rejected("wal_full", "no", permanent=False)
        said = await send(setup, b"<14>app: x\n<14>app: y\n")
        assert said.startswith(b"error wal_full: no\n")
        assert setup.rejected("wal_full") == 2


async def test_a_stop_keeps_half_a_message_too(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="syslog") as setup:
        _, writer = await asyncio.open_unix_connection(str(setup.path))
        writer.write(b"<1>whole\n<1>hal")
        await setup.sink.until(lambda: setup.sink.content("app") == b"<1>whole\n")
        await setup.listener.close(5.0)
        assert setup.sink.content("app") == b"<1>whole\n\\<1>hal\\c\n"
        writer.close()


async def test_a_datagram_is_a_message_whatever_is_in_it(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="syslog", syslog=DATAGRAM) as setup:
        large = b"<1>" + b"x" * 150_000
        with sender(setup.path) as sending:
            for message in (b"<14>a\0", b"<14>a\nb\n", b"", b"5 hello", large):
                sending.send(message)
        stored = b"<14>a\n\\<14>a\\nb\n5 hello\n" + large + b"\n"
        await setup.sink.until(lambda: setup.sink.content("app") == stored)
        await setup.listener.close(5.0)
        assert setup.metric("acked_records_total", protocol="syslog") == 4


async def test_datagrams_wait_in_a_queue_while_the_sink_has_no_room_and_senders_are_told(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, protocol="syslog", syslog=DATAGRAM) as setup:
        setup.sink.room = False
        sent = []
        with sender(setup.path) as sending:
            sending.send(b"<14>first")
            await setup.sink.until(setup.sink.waits_for_room)
            with pytest.raises(BlockingIOError):
                for number in range(100_000):
                    sending.send(b"<14>%d" % number)
                    sent.append(b"<14>%d\n" % number)
        assert len(sent) == queue_length(), "no more than the kernel's queue; nothing was dropped"
        setup.sink.make_room()
        stored = b"<14>first\n" + b"".join(sent)
        await setup.sink.until(lambda: setup.sink.content("app") == stored)


async def test_a_stop_takes_the_datagrams_that_are_in_the_queue(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="syslog", syslog=DATAGRAM) as setup:
        with sender(setup.path) as sending:
            for number in range(8):
                sending.send(b"<14>%d" % number)
            await setup.listener.close(5.0)
            with pytest.raises((BrokenPipeError, ConnectionError)):
                sending.send(b"<14>late")
        assert setup.sink.content("app") == b"".join(b"<14>%d\n" % n for n in range(8))
        assert not setup.path.exists()


async def test_a_stop_waits_until_there_is_room_for_what_was_sent(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="syslog", syslog=DATAGRAM) as setup:
        setup.sink.room = False
        with sender(setup.path) as sending:
            sending.send(b"<14>1")
            await setup.sink.until(setup.sink.waits_for_room)
            sending.send(b"<14>2")
            closing = asyncio.create_task(setup.listener.close(20.0))
            await asyncio.sleep(0.01)
            assert not closing.done()
            setup.sink.make_room()
            await closing
        assert setup.sink.content("app") == b"<14>1\n<14>2\n"


async def test_datagrams_that_the_sink_refuses_for_good_are_counted(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="syslog", syslog=DATAGRAM) as setup:
        setup.sink.refuse_all = Rejected("wal_failed", "no", permanent=False)
        with sender(setup.path) as sending:
            sending.send(b"<14>1")
        await setup.listener.close(5.0)
        assert setup.rejected("wal_failed") == 1


async def test_a_large_datagram_is_stored_in_parts(tmp_path: Path) -> None:
    async with listening(
        tmp_path, protocol="syslog", syslog=DATAGRAM, max_record_bytes=2512
    ) as setup:
        with sender(setup.path) as sending:
            sending.send(b"x" * 2100)
        await setup.listener.close(5.0)
        x = b"x" * 1000
        stored = b"\\" + x + b"\\c\n\\" + x + b"\\c\n\\" + b"x" * 100 + b"\n"
        assert setup.sink.content("app") == stored
