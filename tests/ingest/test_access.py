"""Who may connect, how many at a time, and to which streams: over real sockets."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hf_agent.ingest.admission import Admission
from hf_agent.ingest.allowed_streams import AllowedStreams
from hf_agent.ingest.credentials import NOBODY, Credentials
from hf_agent.ingest.listener import ListenerError
from hf_agent.ingest.sink import Rejected
from support.fake_sink import FakeSink
from support.forward_wire import Peer, packed
from support.listening import SocketConfig, listening
from support.manual_clock import ManualClock
from support.wire import Wire

ME = str(os.geteuid())
SOMEBODY_ELSE = str(os.geteuid() + 1)
MY_GROUP = str(os.getegid())
ANOTHER_GROUP = str(max([os.getegid(), *os.getgroups()]) + 1)

PROTOCOLS = ("append", "lines", "forward", "syslog")


def peer(uid: int, gid: int = 100, *groups: int) -> Credentials:
    return Credentials(1, uid, gid, frozenset(groups))


async def said(path: Path) -> bytes:
    """All that the agent says to a client that only connects."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    text = await everything(reader)
    writer.close()
    return text


async def everything(reader: asyncio.StreamReader) -> bytes:
    """All bytes until the end, however that comes."""
    text = b""
    try:
        async with asyncio.timeout(20):
            while chunk := await reader.read(1000):
                text += chunk
    except ConnectionError:
        pass
    return text


# Users and groups.


@pytest.mark.parametrize(
    ("uids", "gids", "who", "admitted"),
    [
        ((), (), peer(7), True),
        ((), (), NOBODY, True),
        (("7",), (), peer(7), True),
        (("7",), (), peer(8), False),
        (("7",), (), NOBODY, False),
        ((), ("100",), peer(7, 100), True),
        ((), ("100",), peer(7, 101), False),
        ((), ("100",), peer(7, 101, 5, 100), True),
        (("7",), ("100",), peer(8, 100), True),
        (("7",), ("100",), peer(7, 101), True),
        (("7",), ("100",), peer(8, 101), False),
        (("root",), (), peer(0), True),
        ((), ("root",), peer(7, 0), True),
    ],
)
def test_either_list_admits_and_without_lists_everybody_is(
    uids: tuple[str, ...], gids: tuple[str, ...], who: Credentials, admitted: bool
) -> None:
    rules = Admission(SocketConfig("s", allow_uids=uids, allow_gids=gids))
    assert rules.allows(who) == admitted


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_is_not_on_the_lists_is_told_so_and_counted(
    tmp_path: Path, protocol: str
) -> None:
    access = {"allow_uids": (SOMEBODY_ELSE,), "allow_gids": (ANOTHER_GROUP,)}
    async with listening(tmp_path, protocol=protocol, access=access) as setup:
        text = await said(setup.path)
        if protocol == "forward":
            assert text == b"", "the protocol has no word for it"
        else:
            assert b"not_allowed" in text and f"uid={ME}".encode() in text
        assert (
            setup.metric("refused_connections_total", protocol=protocol, reason="not_allowed") == 1
        )
        assert setup.metric("open_connections", protocol=protocol) == 0


@pytest.mark.parametrize(
    "access",
    [
        {"allow_uids": (SOMEBODY_ELSE, ME)},
        {"allow_uids": (SOMEBODY_ELSE,), "allow_gids": (MY_GROUP,)},
    ],
)
async def test_who_is_on_a_list_is_let_in(tmp_path: Path, access: dict[str, Any]) -> None:
    async with listening(tmp_path, access=access) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"x")
        await wire.receive_until("ack", 1)
        await wire.close()
        assert (
            setup.metric("refused_connections_total", protocol="append", reason="not_allowed") == 0
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a process other groups")
async def test_a_supplementary_group_admits(tmp_path: Path) -> None:
    access = {"allow_gids": ("23456",)}
    async with listening(tmp_path, protocol="lines", access=access) as setup:
        script = (
            "import socket, sys\n"
            "client = socket.socket(socket.AF_UNIX)\n"
            "client.connect(sys.argv[1])\n"
            "client.sendall(b'line\\n')\n"
            "client.shutdown(socket.SHUT_WR)\n"
            "sys.exit(client.recv(100).decode())\n"
        )

        def run(groups: list[int]) -> str:
            done = subprocess.run(
                [sys.executable, "-c", script, str(setup.path)],
                extra_groups=groups,
                stderr=subprocess.PIPE,
                text=True,
            )
            return done.stderr

        assert await asyncio.to_thread(run, [23456]) == "\n"
        assert setup.sink.content("app") == b"line\n"
        refused = await asyncio.to_thread(run, [23457])
        assert "not_allowed" in refused or "BrokenPipe" in refused or "reset" in refused


async def test_those_who_are_not_let_in_take_no_place(tmp_path: Path) -> None:
    access = {"allow_uids": (SOMEBODY_ELSE,)}
    async with listening(tmp_path, max_connections=1, access=access) as setup:
        for _ in range(5):
            assert b"not_allowed" in await said(setup.path)


@pytest.mark.parametrize(
    ("access", "what"),
    [
        ({"allow_uids": ("no-such-user",)}, "no such user: correct allow_uids user=no-such-user"),
        ({"allow_gids": ("no-such-gr",)}, "no such group: correct allow_gids group=no-such-gr"),
    ],
)
async def test_a_name_that_this_machine_does_not_know_is_an_error_at_the_start(
    tmp_path: Path, access: dict[str, Any], what: str
) -> None:
    with pytest.raises(ListenerError, match=what):
        async with listening(tmp_path, access=access):
            pass


# How many.


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_user_has_its_own_limit_of_connections(tmp_path: Path, protocol: str) -> None:
    access = {"max_connections_per_uid": 2}
    async with listening(tmp_path, protocol=protocol, access=access) as setup:
        kept = [await asyncio.open_unix_connection(str(setup.path)) for _ in range(2)]
        while setup.listener.connections < 2:
            await asyncio.sleep(0.001)
        text = await said(setup.path)
        if protocol != "forward":
            assert b"too_many_connections" in text
            assert f"user has its most connections uid={ME} limit=2".encode() in text
        reasons = {
            reason: setup.metric("refused_connections_total", protocol=protocol, reason=reason)
            for reason in ("too_many_connections", "too_many_connections_per_uid")
        }
        assert reasons == {"too_many_connections": 0, "too_many_connections_per_uid": 1}
        kept.pop()[1].close()
        while setup.listener.connections > 1:
            await asyncio.sleep(0.001)
        kept.append(await asyncio.open_unix_connection(str(setup.path)))
        while setup.listener.connections < 2:
            await asyncio.sleep(0.001)
        assert not kept[-1][0].at_eof()
        for _, writer in kept:
            writer.close()


def test_one_users_connections_leave_places_for_others_and_nothing_is_kept_of_who_left() -> None:
    rules = Admission(SocketConfig("s", max_connections=3, max_connections_per_uid=2))
    assert [rules.enter(peer(7)) is None for _ in range(3)] == [True, True, False]
    assert rules.enter(peer(8)) is None
    refusal = rules.enter(peer(9))
    assert refusal is not None and refusal.reason == "too_many_connections"
    for uid in (7, 7, 8):
        rules.leave(peer(uid))
    assert rules.connections == 0
    assert not rules._by_uid, "users that are gone take no memory"


async def test_a_refusal_that_goes_on_is_logged_once_a_minute_with_how_often(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    access = {"allow_uids": (SOMEBODY_ELSE,)}
    async with listening(tmp_path, access=access, clock=clock) as setup:
        with capture_logs() as logs:
            for _ in range(5):
                await said(setup.path)
            assert [(log["code"], log["times"]) for log in logs] == [("not_allowed", 1)]
            await clock.advance(61)
            await said(setup.path)
            await said(setup.path)
        assert [log["times"] for log in logs] == [1, 5]


# Which streams.


async def test_an_append_to_another_stream_is_refused_and_the_connection_goes_on(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, access={"allow_streams": ("app/*",)}) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "sys/secret", b"x")
        answer = await wire.receive_until("error")
        assert answer[1] == "stream_not_allowed" and answer[3] == 1
        assert "stream='sys/secret'" in answer[2]
        wire.send("append", 2, "app/web", b"y")
        await wire.receive_until("ack", 2)
        wire.send("multi", 3, [["app/web", 1], ["sys/secret", 1, 7]], b"zz")
        assert (await wire.receive_until("error"))[1:4:2] == ["stream_not_allowed", 3]
        await wire.close()
        assert [taken.stream for taken in setup.sink.taken] == ["app/web"]
        assert setup.rejected("stream_not_allowed") == 2


async def test_a_refused_stream_is_refused_again_on_a_resend_whatever_came_after_it(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, access={"allow_streams": ("app/*",)}) as setup:
        for _ in range(2):
            wire = await Wire.connect(setup.path, "producer")
            wire.send("append", 1, "other", b"x")
            wire.send("append", 2, "app/web", b"y")
            assert (await wire.receive_until("error"))[1:4:2] == ["stream_not_allowed", 1]
            await wire.receive_until("ack", 2)
            await wire.close()
        assert setup.sink.content("app/web") == b"y"


async def test_lines_for_another_stream_end_the_connection_with_an_error(tmp_path: Path) -> None:
    access = {"allow_streams": ("app/*",)}
    async with listening(tmp_path, protocol="lines", stream="{first_line}", access=access) as setup:
        for stream, taken in ((b"other", b""), (b"app/web", b"one\n")):
            reader, writer = await asyncio.open_unix_connection(str(setup.path))
            writer.write(stream + b"\none\n")
            writer.write_eof()
            answer = await everything(reader)
            writer.close()
            assert setup.sink.content(stream.decode()) == taken
            assert answer.startswith(b"error stream_not_allowed: ") == (not taken)
        assert setup.rejected("stream_not_allowed") == 1


async def test_events_for_another_stream_close_the_connection_after_what_came_before(
    tmp_path: Path,
) -> None:
    access = {"allow_streams": ("app.*",)}
    async with listening(tmp_path, protocol="forward", stream="", access=access) as setup:
        client = await Peer.connect(setup.path)
        client.send_bytes(
            packed("app.web", [1, {"n": 1}], chunk="one"), packed("other", [1, {}], chunk="two")
        )
        assert await client.rest() == [{"ack": "one"}]
        await client.close()
        assert {taken.stream for taken in setup.sink.taken} == {"app.web"}
        assert setup.rejected("stream_not_allowed") == 1


async def test_messages_for_another_stream_go_to_the_fallback_stream_if_that_is_allowed(
    tmp_path: Path,
) -> None:
    wire = b"<14>web: 1\n<14>other: 2\n<14>web: 3\n"
    for patterns, answer in (
        (("log/web", "syslog-fallback"), b""),
        (("log/web",), b"error stream_not_allowed: "),
    ):
        access = {"allow_streams": patterns}
        async with listening(
            tmp_path, protocol="syslog", stream="log/{app_name}", access=access
        ) as setup:
            reader, writer = await asyncio.open_unix_connection(str(setup.path))
            writer.write(wire)
            writer.write_eof()
            said = await everything(reader)
            writer.close()
            assert said.startswith(answer) and bool(said) == bool(answer)
            fallback = b"" if answer else b"<14>other: 2\n"
            assert setup.sink.content("syslog-fallback") == fallback
            assert setup.sink.content("log/web") == b"<14>web: 1\n<14>web: 3\n"
            assert setup.rejected("stream_not_allowed") == bool(answer)


def test_decisions_are_made_once_and_a_bounded_number_is_kept() -> None:
    asked: list[str] = []

    def allows(name: str) -> bool:
        asked.append(name)
        return name.startswith("app")

    async def scenario() -> None:
        sink = AllowedStreams(FakeSink(), allows)
        for _ in range(3):
            sink.check_stream("app/1")
            with pytest.raises(Rejected) as caught:
                sink.append("x", b"data", records=1, mark=None)
            assert caught.value.permanent
        assert asked == ["app/1", "x"]
        for number in range(10_000):
            sink.check_stream(f"app/{number}")
        assert len(sink._decisions) <= 1024

    asyncio.run(scenario())
