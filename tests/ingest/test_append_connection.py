"""Protocol append over real sockets: what is taken, what is acknowledged, what is refused."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
import uvloop

from hf_agent import __version__
from hf_agent.ingest.append_messages import MAX_ID
from hf_agent.ingest.sink import Mark, Rejected
from support.listening import listening
from support.wire import Wire, frame


async def test_hello_is_answered_with_the_limits(tmp_path: Path) -> None:
    async with listening(tmp_path, max_record_bytes=5000) as setup:
        setup.sink.marks["p"] = 41
        wire = await Wire.connect(setup.path, hello=False)
        wire.send("hello", 1, {"producer": "p"})
        assert await wire.receive() == [
            "hello",
            1,
            {
                "max_record_bytes": 5000,
                "max_frame_bytes": 5000 + 65536,
                "max_batch_records": 16384,
                "node": "node-1",
                "last_id": 41,
                "agent_version": __version__,
                "max_multi_streams": 256,
                "features": ["epoch", "expect_position", "multi"],
            },
        ]
        await wire.close()


async def test_an_append_is_acknowledged_when_it_is_durable_and_not_before(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.durability_held = True
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"data")
        wire.send("status", 7)
        assert (await wire.receive())[:2] == ["status", 7], "no acknowledgement yet"
        assert setup.metric("acked_records_total", protocol="append") == 0
        setup.sink.make_durable()
        assert await wire.receive() == ["ack", 1, {"app": 4}]
        assert setup.sink.content("app") == b"data"
        assert setup.metric("received_records_total", protocol="append") == 1
        assert setup.metric("received_bytes_total", protocol="append") == 4
        assert setup.metric("acked_records_total", protocol="append") == 1
        assert setup.metric("append_duration_seconds_count") == 1
        await wire.close()


async def test_many_appends_of_one_batch_are_one_callback_and_one_acknowledgement(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.one_batch = setup.sink.durability_held = True
        wire = await Wire.connect(setup.path)
        for id in range(1, 101):
            wire.send("append", id, f"s{id % 2}", b"ab")
        await setup.sink.until(lambda: len(setup.sink.taken) == 100)
        assert setup.sink.durable_callbacks == 1
        setup.sink.make_durable()
        assert await wire.receive() == ["ack", 100, {"s0": 100, "s1": 100}]
        assert setup.metric("append_duration_seconds_count") == 1
        assert setup.metric("acked_records_total", protocol="append") == 100
        await wire.close()


async def test_a_batch_is_taken_as_one_unit(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path, "p")
        wire.send("batch", 5, "app", [1, 0, 3], b"abcd")
        assert await wire.receive() == ["ack", 7, {"app": 4}]
        (taken,) = setup.sink.taken
        assert (bytes(taken.data), taken.records) == (b"abcd", 3)
        assert taken.mark == Mark("p", 7)
        assert setup.metric("received_records_total", protocol="append") == 3
        await wire.close()


async def test_large_payloads_are_passed_on_without_a_copy(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        payload = random.Random(1).randbytes(900_000)
        wire.send("append", 1, "app", payload)
        assert await wire.receive() == ["ack", 1, {"app": 900_000}]
        assert isinstance(setup.sink.taken[0].data, memoryview)
        wire.send("append", 2, "app", bytes(reversed(payload)))
        await wire.receive()
        assert bytes(setup.sink.taken[0].data) == payload, "memory given away is not written again"
        await wire.close()


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_any_mix_of_sizes_and_cuts_arrives_once_and_in_order(
    tmp_path: Path, loop_factory: object
) -> None:
    async def scenario() -> None:
        rng = random.Random(7)
        async with listening(tmp_path) as setup:
            wire = await Wire.connect(setup.path)
            expected: dict[str, bytearray] = {"a": bytearray(), "b": bytearray()}
            stream_of_bytes = bytearray()
            for id in range(1, 600):
                stream = rng.choice("ab")
                data = rng.randbytes(rng.choice((1, 10, 300, 5000, 20_000, 100_000)))
                expected[stream] += data
                stream_of_bytes += frame("append", id, stream, data)
            while stream_of_bytes:
                size = rng.choice((1, 7, 1000, 60_000, 400_000))
                wire.send_bytes(bytes(stream_of_bytes[:size]))
                del stream_of_bytes[:size]
                await wire.writer.drain()
                if rng.random() < 0.1:
                    await asyncio.sleep(0)
            await wire.receive_until("ack", 599)
            assert {name: setup.sink.content(name) for name in "ab"} == expected
            await wire.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:  # type: ignore[arg-type]
        runner.run(scenario())


# -- refusals that end the connection ---------------------------------------------------------


FATAL = {
    "malformed": frame("append", 0, "app", b"x"),
    "malformed msgpack": b"\x00\x00\x00\x03\xc1\xc1\xc1",
    "lengths that do not sum up": frame("batch", 9, "app", [1, 1], b"abc"),
    "lengths of parts that do not sum up": frame("multi", 9, [["app", 1]], b"ab"),
    "two parts of one stream": frame("multi", 9, [["app", 1], ["app", 1]], b"ab"),
    "no parts": frame("multi", 9, [], b""),
    "more parts than may be": frame("multi", 9, [[f"s{n}", 0] for n in range(257)], b""),
    "negative expectation": frame("append", 9, "app", b"x", "wal", -1),
    "resume of nothing": frame("resume", 1),
    "second hello": frame("hello", 1, {}),
    "id that does not rise": frame("append", 1, "app", b"x"),
    "batch that overlaps": frame("batch", 1, "app", [1, 1], b"ab"),
    "ids beyond the largest": frame("batch", MAX_ID, "app", [1, 1], b"ab"),
    "frame over the limit": b"\xff\xff\xff\xff",
}
CODES = {
    "id that does not rise": "bad_id",
    "batch that overlaps": "bad_id",
    "ids beyond the largest": "bad_id",
    "frame over the limit": "frame_too_large",
}


@pytest.mark.parametrize("case", FATAL)
async def test_a_broken_protocol_ends_the_connection_after_what_came_before_is_acknowledged(
    tmp_path: Path, case: str
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.durability_held = True
        bystander = await Wire.connect(setup.path)
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"kept")
        wire.send_bytes(FATAL[case] + frame("append", 100, "app", b"not taken"))
        await setup.sink.until(lambda: len(setup.sink.taken) == 1)
        setup.sink.make_durable()
        ack, error = await wire.rest()
        assert ack == ["ack", 1, {"app": 4}]
        assert error[:2] == ["error", CODES.get(case, "malformed")]
        assert setup.sink.content("app") == b"kept"
        reason = "too_large" if case == "frame over the limit" else "malformed"
        assert setup.rejected(reason) == 1
        bystander.send("append", 1, "app", b"!")
        assert (await bystander.receive())[:2] == ["ack", 1], "others are untouched"
        await wire.close()
        await bystander.close()


@pytest.mark.parametrize(
    "first", [("append", 1, "app", b"x"), ("flush", 1, None), ("status", 1)], ids=lambda f: f[0]
)
async def test_the_first_message_must_be_hello(tmp_path: Path, first: tuple[object, ...]) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path, hello=False)
        wire.send(*first)
        (error,) = await wire.rest()
        assert error[1] == "not_hello"
        assert not setup.sink.taken
        await wire.close()


async def test_another_version_is_refused_whatever_its_options_look_like(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path, hello=False)
        wire.send("hello", 2, [1, 2, 3])
        (error,) = await wire.rest()
        assert error[1] == "bad_version"
        assert "version=2" in error[2]
        await wire.close()


@pytest.mark.parametrize("producer", ["", "a b", "x" * 129, "ä", 5])
async def test_a_bad_producer_name_is_refused(tmp_path: Path, producer: object) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path, hello=False)
        wire.send("hello", 1, {"producer": producer})
        (error,) = await wire.rest()
        assert error[1] == "malformed"
        await wire.close()


@pytest.mark.parametrize("code", ["wal_full", "wal_failed"])
async def test_a_full_or_failed_wal_ends_the_connection_so_that_nothing_overtakes(
    tmp_path: Path, code: str
) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path, "p")
        wire.send("append", 1, "app", b"1")
        assert (await wire.receive())[:2] == ["ack", 1]
        setup.sink.refuse_all = Rejected(code, "no room", permanent=False)
        wire.send("batch", 2, "app", [1, 1], b"23")
        wire.send("append", 4, "app", b"4")
        assert await wire.rest() == [["error", code, "no room", 2]]
        assert setup.rejected(code) == 2
        setup.sink.refuse_all = None
        again = await Wire.connect(setup.path, "p")
        again.send("batch", 2, "app", [1, 1], b"23")
        again.send("append", 4, "app", b"4")
        await again.receive_until("ack", 4)
        assert setup.sink.content("app") == b"1234"
        await wire.close()
        await again.close()


async def test_a_failed_wal_does_not_wait_for_acknowledgements_that_never_come(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.durability_held = True
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"1")
        await setup.sink.until(lambda: len(setup.sink.taken) == 1)
        setup.sink.refuse_all = Rejected("wal_failed", "disk is gone", permanent=False)
        wire.send("append", 2, "app", b"2")
        assert await wire.rest() == [["error", "wal_failed", "disk is gone", 2]]
        await wire.close()


# -- refusals of one append -------------------------------------------------------------------


async def test_a_record_over_the_limit_is_refused_and_the_connection_goes_on(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, max_record_bytes=1000) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"x" * 1000)
        wire.send("append", 2, "app", b"y" * 1001)
        wire.send("batch", 3, "app", [600, 600], b"z" * 1200)
        wire.send("append", 5, "app", b"!")
        messages = [await wire.receive() for _ in range(2)]
        while messages[-1][:2] != ["ack", 5]:
            messages.append(await wire.receive())
        errors = [message for message in messages if message[0] == "error"]
        assert [(error[1], error[3]) for error in errors] == [
            ("record_too_large", 2),
            ("record_too_large", 3),
        ]
        assert setup.sink.content("app") == b"x" * 1000 + b"!"
        assert setup.rejected("too_large") == 3
        await wire.close()


@pytest.mark.parametrize("name", ["", "/a", "../etc", "a b", "x" * 201])
async def test_a_bad_stream_name_refuses_that_append_only(tmp_path: Path, name: str) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, name, b"x")
        wire.send("append", 2, "app", b"y")
        error = await wire.receive()
        assert (error[0], error[1], error[3]) == ("error", "bad_stream", 1)
        assert await wire.receive() == ["ack", 2, {"app": 1}]
        assert setup.rejected("bad_stream") == 1
        await wire.close()


async def test_an_unknown_acknowledgement_refuses_that_append_only(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"x", "later")
        wire.send("append", 2, "app", b"y")
        error = await wire.receive()
        assert (error[0], error[1], error[3]) == ("error", "bad_ack", 1)
        assert await wire.receive() == ["ack", 2, {"app": 1}]
        await wire.close()


async def test_too_many_streams_refuse_that_append_only(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.refusals["new"] = Rejected("too_many_streams", "no more", permanent=True)
        wire = await Wire.connect(setup.path)
        wire.send("batch", 1, "new", [1, 1], b"xx")
        wire.send("append", 3, "app", b"y")
        assert await wire.receive() == ["error", "too_many_streams", "no more", 1]
        assert await wire.receive() == ["ack", 3, {"app": 1}]
        assert setup.rejected("too_many_streams") == 2
        await wire.close()


async def test_too_many_streams_end_the_connection_of_a_producer(tmp_path: Path) -> None:
    """A refusal that is lost on the way must be repeated on the resend, not taken for known."""
    async with listening(tmp_path) as setup:
        setup.sink.refusals["new"] = Rejected("too_many_streams", "no more", permanent=True)
        for _ in range(2):
            wire = await Wire.connect(setup.path, "p")
            wire.send("append", 1, "new", b"x")
            wire.send("append", 2, "app", b"y")
            assert await wire.rest() == [["error", "too_many_streams", "no more", 1]]
            await wire.close()
        assert not setup.sink.taken


async def test_a_refusal_for_what_an_append_is_comes_again_on_a_resend(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        for _ in range(2):
            wire = await Wire.connect(setup.path, "p")
            wire.send("append", 1, "../x", b"x")
            wire.send("append", 2, "app", b"y")
            assert (await wire.receive())[1] == "bad_stream"
            await wire.receive_until("ack", 2)
            await wire.close()
        assert setup.sink.content("app") == b"y"


async def test_an_append_of_nothing_is_acknowledged_in_its_turn(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.one_batch = setup.sink.durability_held = True
        wire = await Wire.connect(setup.path, "p")
        wire.send("append", 1, "app", b"x")
        wire.send("append", 2, "app", b"")
        wire.send("status", 1)
        assert (await wire.receive())[0] == "status"
        setup.sink.make_durable()
        await wire.receive_until("ack", 2)
        assert len(setup.sink.taken) == 1
        await wire.close()


# -- producers ----------------------------------------------------------------------------------


async def test_what_a_producer_sends_again_is_dropped_and_acknowledged_once_durable(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.durability_held = setup.sink.one_batch = True
        first = await Wire.connect(setup.path, "p")
        first.send("batch", 1, "app", [1, 1, 1], b"123")
        await setup.sink.until(lambda: len(setup.sink.taken) == 1)
        await first.close()
        second = await Wire.connect(setup.path, "p")
        second.send("append", 1, "app", b"1")
        second.send("batch", 2, "app", [1, 1, 2, 1], b"23445")
        second.send("status", 1)
        assert (await second.receive())[0] == "status", "known, but not durable yet"
        setup.sink.make_durable()
        assert (await second.receive_until("ack", 5))[2] == {"app": 6}
        assert setup.sink.content("app") == b"123445"
        assert setup.metric("deduplicated_records_total") == 3
        assert setup.metric("received_records_total", protocol="append") == 5
        await second.close()


async def test_without_a_producer_name_ids_mean_nothing_on_the_next_connection(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        for _ in range(2):
            wire = await Wire.connect(setup.path)
            wire.send("append", 1, "app", b"x")
            assert (await wire.receive())[:2] == ["ack", 1]
            await wire.close()
        assert setup.sink.content("app") == b"xx"


async def test_a_second_connection_of_a_producer_supersedes_the_first_on_any_socket(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        config = type(setup.config)(str(tmp_path / "other.sock"))
        other = setup.another(config)
        await other.start()
        first = await Wire.connect(setup.path, "p")
        first.send("append", 1, "app", b"1")
        await first.receive()
        second = await Wire.connect(Path(config.path), "p")
        first.send("append", 2, "app", b"not taken")
        (error,) = await first.rest()
        assert error[:2] == ["error", "superseded"]
        second.send("append", 2, "app", b"2")
        await second.receive_until("ack", 2)
        assert setup.sink.content("app") == b"12"
        await first.close()
        await second.close()
        await other.close()


# -- store --------------------------------------------------------------------------------------


async def test_an_append_may_ask_to_be_told_when_the_store_has_it(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.store_held = True
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"x", "store")
        wire.send("append", 2, "app", b"y")
        wire.send("append", 3, "app", b"z", "store")
        await wire.receive_until("ack", 3)
        assert setup.sink.stored_asked == [("app", 1)], "one flush at a time, the rest gathers"
        setup.sink.store_held = False
        setup.sink.make_stored()
        assert await wire.receive() == ["stored", 1, {"app": 1}]
        assert await wire.receive() == ["stored", 3, {"app": 3}]
        await wire.close()


async def test_stored_is_cumulative_over_streams(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.store_held = True
        wire = await Wire.connect(setup.path)
        for id in range(1, 50):
            wire.send("append", id, f"s{id % 3}", b"x", "store")
        await wire.receive_until("ack", 49)
        assert len(setup.sink.stored_asked) <= 3
        setup.sink.make_stored()
        positions = {}
        while (message := await wire.receive_until("stored"))[1] < 49:
            positions.update(message[2])
        positions.update(message[2])
        assert positions == {"s0": 16, "s1": 17, "s2": 16}
        await wire.close()


async def test_a_resend_that_asks_for_the_store_waits_for_a_flush_of_the_stream(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.store_held = True
        first = await Wire.connect(setup.path, "p")
        first.send("append", 1, "app", b"x", "store")
        await first.receive_until("ack", 1)
        await first.close()
        second = await Wire.connect(setup.path, "p")
        second.send("append", 1, "app", b"x", "store")
        await setup.sink.until(lambda: setup.sink.flushes == ["app"])
        assert await second.receive() == ["ack", 1, {}]
        setup.sink.make_stored()
        assert await second.receive() == ["stored", 1, {}]
        await second.close()


async def test_a_resend_to_a_stream_that_is_not_known_any_more_is_told_stored(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path, "producer")
        wire.send("append", 1, "app", b"x")
        await wire.receive_until("ack", 1)
        await wire.close()
        del setup.sink.positions["app"]
        again = await Wire.connect(setup.path, "producer")
        again.send("append", 1, "app", b"x", "store")
        await again.receive_until("stored", 1)
        assert setup.sink.flushes == [], "there is nothing of it to flush"
        await again.close()


async def test_flush_is_answered_when_the_store_has_it(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.store_held = True
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"x")
        wire.send("flush", 8, "app")
        wire.send("flush", 9, None)
        await setup.sink.until(lambda: setup.sink.flushes == ["app", None])
        wire.send("status", 10)
        await wire.receive_until("status", 10)
        setup.sink.make_stored()
        assert {(await wire.receive())[1] for _ in range(2)} == {8, 9}
        await wire.close()


async def test_flush_of_an_unknown_stream_is_refused_with_the_number_of_the_request(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.send("flush", 8, "nobody")
        error = await wire.receive()
        assert (error[0], error[1], error[3]) == ("error", "unknown_stream", 8)
        await wire.close()


async def test_a_client_with_too_many_flushes_under_way_waits(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.store_held = True
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"x")
        for request in range(1, 40):
            wire.send("flush", request, None)
        await setup.sink.until(lambda: len(setup.sink.flushes) == 16)
        setup.sink.make_stored()
        answered: set[int] = set()
        while len(answered) < 39:
            answered.add((await wire.receive_until("flushed"))[1])
        assert answered == set(range(1, 40))
        await wire.close()


# -- the end of the input -----------------------------------------------------------------------


async def test_half_a_message_at_disconnect_is_dropped_and_what_came_before_kept(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.send_bytes(frame("append", 1, "app", b"kept") + frame("append", 2, "app", b"no")[:-1])
        await wire.close()
        await setup.sink.until(lambda: setup.sink.content("app") == b"kept")
        while setup.listener.connections:
            await asyncio.sleep(0.001)
        assert setup.rejected("incomplete") == 1
        assert setup.sink.records("app") == 1


async def test_a_client_that_ended_its_side_still_gets_every_answer(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.durability_held = setup.sink.store_held = True
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"x")
        wire.send("append", 2, "app", b"y", "store")
        wire.send("flush", 1, None)
        wire.end_writing()
        await setup.sink.until(lambda: len(setup.sink.flushes) == 1)
        setup.sink.make_durable()
        await wire.receive_until("ack", 2)
        setup.sink.make_stored()
        assert sorted(message[0] for message in await wire.rest()) == ["flushed", "stored"]
        await wire.close()


async def test_half_a_message_before_a_half_close_is_told(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        wire = await Wire.connect(setup.path)
        wire.send_bytes(frame("append", 1, "app", b"kept") + b"\x00")
        wire.end_writing()
        ack, error = await wire.rest()
        assert ack[:2] == ["ack", 1]
        assert error[:2] == ["error", "malformed"]
        await wire.close()


async def test_no_sequence_of_messages_does_harm_beyond_its_own_connection(tmp_path: Path) -> None:
    """Whatever a client says, it gets acknowledgements or a code, and others go on."""
    trouble: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))
    async with listening(tmp_path, max_record_bytes=100) as setup:
        for seed in range(60):
            rng = random.Random(seed)
            wire = await Wire.connect(setup.path, rng.choice((None, "p", "q")), hello=seed % 5 > 0)
            for _ in range(rng.randint(1, 40)):
                stream = rng.choice(("a", "b", "", "../c", "x" * 300))
                id = rng.choice((rng.randint(1, 50), MAX_ID, rng.randint(1, 1000)))
                ack = rng.choice(("wal", "wal", "store", "nope"))
                lengths = [rng.randint(0, 60) for _ in range(rng.randint(1, 4))]
                data = rng.randbytes(sum(lengths) + (rng.random() < 0.05))
                wire.send(
                    *rng.choice(
                        (
                            ("append", id, stream, data, ack),
                            ("batch", id, stream, lengths, data, ack),
                            ("flush", id, rng.choice((None, "a", "never"))),
                            ("status", id),
                        )
                    )
                )
                if rng.random() < 0.02:
                    wire.send_bytes(rng.randbytes(rng.randint(1, 30)))
            wire.end_writing()
            messages = await wire.rest()
            assert {message[0] for message in messages} <= {
                *("hello", "ack", "stored", "error", "flushed", "status")
            }, f"seed={seed}"
            await wire.close()
        bystander = await Wire.connect(setup.path)
        bystander.send("append", 1, "app", b"fine")
        await bystander.receive_until("ack", 1)
        await bystander.close()
    assert not trouble, trouble
