"""Whose a datagram is: the kernel says so of each one, and lists, metrics and JSON go by it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hf_agent.config import Syslog
from hf_agent.ingest.credentials import NOBODY, passed_credentials
from support.listening import Setup, listening
from support.manual_clock import ManualClock

DATAGRAM = Syslog(socket="datagram")
JSON = Syslog(socket="datagram", format="json", credentials=True)
UID, GID = os.getuid(), os.getgid()
OTHER = 54_321
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")

SENDER = """
import os, socket, struct, sys
sending = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sending.connect(sys.argv[1])
sending.send(b"<14>before")
uid, gid = int(sys.argv[2]), int(sys.argv[3])
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
sending.send(b"<14>after")
"""


def send(path: Path, *messages: bytes, ancillary: Any = ()) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.connect(str(path))
        for message in messages:
            sending.sendmsg([message], ancillary)


def send_before_and_after(path: Path, uid: int, gid: int) -> int:
    """A process sends as root, becomes somebody else, and sends again; returns its pid."""
    process = subprocess.Popen([sys.executable, "-c", SENDER, str(path), str(uid), str(gid)])
    assert process.wait(60) == 0
    return process.pid


def named(pid: int, uid: int, gid: int) -> list[tuple[int, int, bytes]]:
    return [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("iII", pid, uid, gid))]


async def settled(setup: Setup) -> list[bytes]:
    """What is stored once all that was sent is read."""
    await setup.listener.close(20.0)
    return setup.sink.content("app").splitlines()


@AS_ROOT
@pytest.mark.parametrize(
    ("access", "stored"),
    [
        ({"allow_uids": (str(OTHER),)}, [b"<14>after"]),
        ({"allow_uids": ("root",)}, [b"<14>before"]),
        ({"allow_gids": (str(OTHER + 1),)}, [b"<14>after"]),
        ({"allow_uids": ("7",), "allow_gids": ("8",)}, []),
        ({"allow_uids": ("0",), "allow_gids": (str(OTHER + 1),)}, [b"<14>before", b"<14>after"]),
        ({}, [b"<14>before", b"<14>after"]),
    ],
)
async def test_the_lists_go_by_who_the_sender_is_as_it_sends(
    tmp_path: Path, access: dict[str, Any], stored: list[bytes]
) -> None:
    async with listening(tmp_path, protocol="syslog", syslog=DATAGRAM, access=access) as setup:
        await asyncio.to_thread(send_before_and_after, setup.path, OTHER, OTHER + 1)
        assert await settled(setup) == stored
        assert setup.rejected("not_allowed") == 2 - len(stored)


async def test_who_is_on_no_list_is_counted_and_logged_once_a_minute(tmp_path: Path) -> None:
    clock = ManualClock()
    access = {"allow_uids": (str(UID + 1),), "allow_gids": (str(GID + 1),)}
    async with listening(
        tmp_path, protocol="syslog", syslog=DATAGRAM, access=access, clock=clock
    ) as setup:
        with capture_logs() as logs:
            for number in range(1, 601):
                await asyncio.to_thread(send, setup.path, b"<14>x")
                while setup.rejected("not_allowed") < number:
                    await asyncio.sleep(0)
            await clock.advance(61)
            assert await settled(setup) == []
        assert [(log["code"], log["times"]) for log in logs] == [("not_allowed", 1)]
        assert f"uid={UID} gid={GID}" in logs[0]["reason"]
        assert setup.metric("received_records_total", protocol="syslog") == 0


async def test_messages_say_who_sent_them(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="syslog", syslog=JSON) as setup:
        send(setup.path, b"<14>a", b"junk", b"x" * 200_000)
        rows = [json.loads(line) for line in await settled(setup)]
        assert [list(row)[:3] for row in rows] == [["received", "pid", "uid"]] * len(rows)
        assert {(row["pid"], row["uid"]) for row in rows} == {(os.getpid(), UID)}
        assert len(rows) == 4 and rows[-1]["part"] == 2


@AS_ROOT
async def test_each_message_of_several_senders_says_its_own(tmp_path: Path) -> None:
    async with listening(tmp_path, protocol="syslog", syslog=JSON) as setup:
        pid = await asyncio.to_thread(send_before_and_after, setup.path, OTHER, OTHER)
        send(setup.path, b"<14>mine")
        rows = [json.loads(line) for line in await settled(setup)]
        assert [(row["message"], row["pid"], row["uid"]) for row in rows] == [
            ("before", pid, 0),
            ("after", pid, OTHER),
            ("mine", os.getpid(), 0),
        ]


async def test_over_a_stream_socket_it_is_who_connected(tmp_path: Path) -> None:
    syslog = Syslog(format="json", credentials=True)
    async with listening(tmp_path, protocol="syslog", syslog=syslog) as setup:
        _, writer = await asyncio.open_unix_connection(str(setup.path))
        writer.write(b"<14>a\n")
        writer.close()
        await setup.sink.until(lambda: setup.sink.records("app") == 1)
        row = json.loads(setup.sink.content("app"))
        assert (row["pid"], row["uid"]) == (os.getpid(), os.geteuid())


async def test_without_the_key_json_says_nothing_of_the_sender(tmp_path: Path) -> None:
    syslog = Syslog(socket="datagram", format="json")
    async with listening(tmp_path, protocol="syslog", syslog=syslog) as setup:
        send(setup.path, b"<14>a")
        (line,) = await settled(setup)
        assert not json.loads(line).keys() & {"pid", "uid"}


@AS_ROOT
async def test_root_may_send_in_the_name_of_somebody_else_as_a_relay_does(tmp_path: Path) -> None:
    access = {"allow_uids": (str(OTHER),)}
    async with listening(tmp_path, protocol="syslog", syslog=JSON, access=access) as setup:
        send(setup.path, b"<14>a", ancillary=named(os.getpid(), OTHER, OTHER))
        (line,) = await settled(setup)
        assert json.loads(line)["uid"] == OTHER


@AS_ROOT
def test_others_may_not(tmp_path: Path) -> None:
    script = SENDER.replace(
        'sending.send(b"<14>after")',
        "claim = struct.pack('iII', os.getpid(), 0, 0)\n"
        "try:\n"
        "    sending.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, claim)])\n"
        "except PermissionError:\n"
        "    print('refused')\n",
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "s"))
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "s"), str(OTHER), str(OTHER)],
            capture_output=True,
            timeout=60,
        )
    assert done.stdout == b"refused\n", done.stderr


@pytest.mark.parametrize("syslog", [DATAGRAM, JSON])
async def test_descriptors_that_a_sender_sends_along_do_not_stay_open(
    tmp_path: Path, syslog: Syslog
) -> None:
    async with listening(tmp_path, protocol="syslog", syslog=syslog) as setup:
        with Path(os.devnull).open("rb") as null:
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", null.fileno()))]
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(5):
                await asyncio.to_thread(send, setup.path, b"<14>a", ancillary=passed)
            await setup.sink.until(lambda: setup.sink.records("app") == 5)
            assert len(os.listdir("/proc/self/fd")) == before


def test_what_the_kernel_does_not_say_is_nobody() -> None:
    assert passed_credentials([]) == NOBODY
    assert passed_credentials([(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, b"short")]) == NOBODY
    assert passed_credentials(named(1, 2, 3)) == (1, 2, 3, frozenset())
