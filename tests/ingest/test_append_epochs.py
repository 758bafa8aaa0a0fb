"""Epochs of producers over real sockets: the later one shuts the earlier one out."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_agent.ingest.append_messages import MAX_ID
from hf_agent.ingest.sink import Mark, Rejected
from support.listening import Setup, listening
from support.wire import Wire


async def greet(setup: Setup, epoch: int | None, producer: str = "p") -> Wire:
    """A connection that has said `hello`; the answer is not read."""
    wire = await Wire.connect(setup.path, hello=False)
    options: dict[str, object] = {"producer": producer}
    if epoch is not None:
        options["epoch"] = epoch
    wire.send("hello", 1, options)
    return wire


async def test_ids_of_a_later_epoch_begin_anew(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        for epoch in (None, 1, 7, MAX_ID):
            wire = await greet(setup, epoch)
            assert (await wire.receive())[2]["last_id"] == 0
            wire.send("append", 1, "app", b"x")
            wire.send("append", 5, "app", b"y")
            assert (await wire.receive_until("ack", 5))[1] == 5
            assert setup.sink.taken[-1].mark == Mark("p", 5, epoch or 0)
            await wire.close()
        assert setup.sink.content("app") == b"xyxyxyxy"


async def test_within_an_epoch_a_resend_is_dropped(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        first = await greet(setup, 3)
        first.send("batch", 1, "app", [1, 1], b"12")
        await first.receive_until("ack", 2)
        second = await greet(setup, 3)
        assert (await first.rest())[0][:2] == ["error", "superseded"]
        assert (await second.receive())[2]["last_id"] == 2
        second.send("batch", 2, "app", [1, 1], b"23")
        await second.receive_until("ack", 3)
        assert setup.sink.content("app") == b"123"
        await first.close()
        await second.close()


async def test_an_open_connection_of_an_earlier_epoch_is_fenced_and_takes_nothing_more(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        old = await greet(setup, None)
        old.send("append", 1, "app", b"1")
        await old.receive_until("ack", 1)
        new = await greet(setup, 1)
        await new.receive()
        old.send("append", 2, "app", b"late")
        (error,) = await old.rest()
        assert error[:2] == ["error", "fenced"]
        assert error[2] == "producer goes on in a later epoch producer=p epoch=0 known=1"
        new.send("append", 1, "app", b"2")
        await new.receive_until("ack", 1)
        assert setup.sink.content("app") == b"12"
        assert setup.rejected("fenced") == 1
        await old.close()
        await new.close()


@pytest.mark.parametrize("late", [None, 0, 4])
async def test_a_later_connection_of_an_earlier_epoch_is_fenced_and_supersedes_nobody(
    tmp_path: Path, late: int | None
) -> None:
    async with listening(tmp_path) as setup:
        new = await greet(setup, 5)
        await new.receive()
        old = await greet(setup, late)
        old.send("append", 99, "app", b"late")
        (error,) = await old.rest()
        assert error[:2] == ["error", "fenced"]
        new.send("append", 1, "app", b"x")
        await new.receive_until("ack", 1)
        assert setup.sink.content("app") == b"x"
        other = await greet(setup, late, "another")
        assert (await other.receive())[0] == "hello"
        for wire in (old, new, other):
            await wire.close()


async def test_hello_of_a_later_epoch_is_answered_only_when_the_epoch_is_durable(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.durability_held = True
        wire = await greet(setup, 2)
        wire.send("append", 1, "app", b"behind")
        await setup.sink.until(lambda: setup.sink.epochs == {"p": 2})
        bystander = await Wire.connect(setup.path)
        bystander.send("status", 1)
        await bystander.receive()
        assert not setup.sink.taken, "nothing is taken before"
        again = await greet(setup, 2)
        assert (await wire.rest())[0][:2] == ["error", "superseded"], "and no welcome"
        setup.sink.make_durable()
        assert (await again.receive())[0] == "hello"
        again.send("append", 1, "app", b"x")
        await again.receive_until("ack", 1)
        for open_wire in (wire, bystander, again):
            await open_wire.close()


async def test_what_came_behind_such_a_hello_is_taken_although_the_client_has_left(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.durability_held = True
        wire = await greet(setup, 2)
        wire.send("append", 1, "app", b"behind")
        await wire.writer.drain()
        await wire.close()
        await setup.sink.until(lambda: setup.sink.epochs == {"p": 2})
        setup.sink.make_durable()
        await setup.sink.until(lambda: setup.sink.content("app") == b"behind")


async def test_hello_of_a_later_epoch_waits_for_room_and_one_of_the_same_does_not(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        first = await greet(setup, 2)
        await first.receive()
        setup.sink.room = False
        second = await greet(setup, 2)
        assert (await second.receive())[0] == "hello"
        later = await greet(setup, 3)
        await setup.sink.until(setup.sink.waits_for_room)
        second.send("status", 1)
        assert (await second.receive())[0] == "status", "not fenced yet"
        setup.sink.make_room()
        assert (await later.receive())[0] == "hello"
        assert (await second.rest())[0][1] == "fenced"
        for wire in (first, second, later):
            await wire.close()


async def test_an_epoch_that_cannot_be_made_durable_is_told_so(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        first = await greet(setup, 1)
        await first.receive()
        setup.sink.refuse_all = Rejected("wal_full", "the WAL is full", permanent=False)
        wire = await greet(setup, 2)
        assert (await wire.rest())[0][:2] == ["error", "wal_full"]
        first.send("status", 1)
        assert (await first.receive())[0] == "status", "the earlier one goes on"
        await first.close()
        await wire.close()


@pytest.mark.parametrize(
    "options",
    [
        {"epoch": 1},
        {"producer": "p", "epoch": -1},
        {"producer": "p", "epoch": MAX_ID + 1},
        {"producer": "p", "epoch": "1"},
        {"producer": "p", "epoch": 1.5},
        {"producer": "p", "epoch": None},
    ],
)
async def test_a_bad_epoch_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path, hello=False)
        wire.send("hello", 1, options)
        assert (await wire.rest())[0][:2] == ["error", "malformed"]
        await wire.close()
