"""Compare-and-append over real sockets: taken only where the client thinks the stream is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_agent.ingest.sink import Mark, Rejected
from support.listening import listening
from support.wire import Wire


def mismatch(id: int, **positions: int) -> list[Any]:
    text = " ".join(f"{stream}={position}" for stream, position in positions.items())
    message = f"stream is not at the expected position {text}"
    return ["error", "position_mismatch", message, id, positions]


async def test_an_append_is_taken_where_its_expectation_holds(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"abc", "wal", 0)
        wire.send("batch", 2, "app", [1, 1], b"de", "wal", 3)
        wire.send("append", 4, "app", b"f", "wal", None)
        assert (await wire.receive_until("ack", 4))[2] == {"app": 6}
        assert setup.sink.content("app") == b"abcdef"
        await wire.close()


async def test_a_refusal_tells_the_present_position_and_stores_nothing(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"abc")
        await wire.receive_until("ack", 1)
        for id, expected in enumerate((0, 2, 4, 1 << 62), 2):
            wire.send("append", id, "app", b"x", "wal", expected)
            assert await wire.receive() == mismatch(id, app=3)
            wire.send("resume", id)
        wire.send("batch", 6, "new", [1, 0], b"x", "wal", 1)
        assert await wire.receive() == mismatch(6, new=0)
        wire.send("resume", 6)
        wire.send("append", 8, "app", b"d", "wal", 3)
        assert await wire.receive() == ["ack", 8, {"app": 4}]
        assert setup.sink.content("app") == b"abcd"
        assert "new" not in setup.sink.positions
        assert setup.rejected("position_mismatch") == 6
        await wire.close()


@pytest.mark.parametrize("producer", [None, "p"])
async def test_nothing_behind_a_refusal_is_taken_or_answered_before_the_client_knows(
    tmp_path: Path, producer: str | None
) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path, producer)
        setup.sink.positions["app"] = 10
        wire.send("append", 1, "app", b"0123456789", "wal", 0)
        # Were it judged for itself, it would fit although what it builds on is missing.
        wire.send("append", 2, "app", b"next", "wal", 10)
        wire.send("append", 3, "other", b"x")
        wire.send("flush", 1, None)
        wire.send("status", 2)
        wire.send("hello", 1, {})
        wire.send("resume", 1)
        wire.send("append", 2, "app", b"meant", "wal", 10)
        assert await wire.receive() == mismatch(1, app=10)
        assert await wire.receive() == ["ack", 2, {"app": 15}]
        assert [bytes(taken.data) for taken in setup.sink.taken] == [b"meant"]
        await wire.close()


async def test_what_was_taken_is_known_on_a_resend_although_the_stream_has_gone_on(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        first = await Wire.connect(setup.path, "p")
        first.send("append", 1, "app", b"abc", "wal", 0)
        first.send("append", 2, "app", b"", "wal", 3)
        await first.receive_until("ack", 2)
        await first.close()
        other = await Wire.connect(setup.path)
        other.send("append", 1, "app", b"!")
        await other.receive()
        again = await Wire.connect(setup.path, "p")
        again.send("append", 1, "app", b"abc", "wal", 0)
        again.send("append", 2, "app", b"", "wal", 3)
        assert (await again.receive_until("ack", 2))[1] == 2
        again.send("append", 3, "app", b"x", "wal", 3)
        assert await again.receive() == mismatch(3, app=4)
        assert setup.sink.content("app") == b"abc!"
        await again.close()
        await other.close()


async def test_a_refusal_that_was_lost_is_not_taken_for_known_on_a_resend(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.positions["app"] = 4
        first = await Wire.connect(setup.path, "p")
        first.send("append", 1, "app", b"x", "wal", 0)
        first.send("append", 2, "app", b"y")
        await first.receive()
        await first.close()
        again = await Wire.connect(setup.path, "p")
        again.send("append", 1, "app", b"x", "wal", 0)
        assert await again.receive() == mismatch(1, app=4)
        assert not setup.sink.taken
        await again.close()


async def test_of_a_batch_that_is_partly_known_the_rest_is_expected_behind_that(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        first = await Wire.connect(setup.path, "p")
        first.send("batch", 1, "app", [1, 2], b"122")
        await first.receive_until("ack", 2)
        await first.close()
        again = await Wire.connect(setup.path, "p")
        again.send("batch", 1, "app", [1, 2, 3], b"122333", "wal", 0)
        assert (await again.receive_until("ack", 3))[2] == {"app": 6}
        assert setup.sink.taken[-1].mark == Mark("p", 3)
        assert setup.sink.content("app") == b"122333"
        await again.close()


async def test_an_append_of_nothing_asks_only_whether_the_expectation_holds(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.positions["app"] = 4
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"", "wal", 4)
        assert (await wire.receive())[:2] == ["ack", 1]
        wire.send("append", 2, "app", b"", "wal", 5)
        assert await wire.receive() == mismatch(2, app=4)
        assert not setup.sink.taken
        await wire.close()


async def test_any_refusal_of_a_conditional_append_holds_what_is_behind_it(tmp_path: Path) -> None:
    async with listening(tmp_path, max_record_bytes=10) as setup:
        setup.sink.refusals["full"] = Rejected("too_many_streams", "no", permanent=True)
        wire = await Wire.connect(setup.path)
        for id, (stream, data, ack, code) in enumerate(
            (
                ("app", bytes(11), "wal", "record_too_large"),
                ("/", b"x", "wal", "bad_stream"),
                ("app", b"x", "disk", "bad_ack"),
                ("full", b"x", "wal", "too_many_streams"),
            ),
            1,
        ):
            wire.send("append", 2 * id, stream, data, ack, 0)
            wire.send("append", 2 * id + 1, "app", b"skipped")
            assert (await wire.receive())[:2] == ["error", code]
            wire.send("resume", 2 * id)
        wire.send("append", 10, "app", b"x")
        assert await wire.receive() == ["ack", 10, {"app": 1}]
        await wire.close()


async def test_expectations_are_compared_when_there_is_room_not_before(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.room = False
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"x", "wal", 0)
        await setup.sink.until(setup.sink.waits_for_room)
        setup.sink.positions["app"] = 5
        setup.sink.make_room()
        assert await wire.receive() == mismatch(1, app=5)
        await wire.close()


async def test_only_the_refused_append_can_be_resumed_from(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("append", 4, "app", b"x", "wal", 1)
        wire.send("resume", 3)
        assert [answer[:2] for answer in await wire.rest()] == [
            ["error", "position_mismatch"],
            ["error", "malformed"],
        ]
        await wire.close()
