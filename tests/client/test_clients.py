"""Both clients against a real listener: answers, refusals, reconnects, exactly once."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path

import pytest

from hf_agent.client import (
    AppendRefused,
    AsyncClient,
    Client,
    ClientError,
    ConnectionLost,
    Fenced,
    PositionMismatch,
    RequestRefused,
    Superseded,
    fresh_producer,
)
from hf_agent.ingest.sink import Rejected
from support.clients import KINDS, connect
from support.listening import Setup, listening

pytestmark = pytest.mark.parametrize("kind", KINDS)


def cut_connections(setup: Setup) -> None:
    """The agent goes as if it had been killed."""
    for connection in list(setup.listener._endpoint.connections):
        connection.abort()


async def test_appends_arrive_in_order_and_are_acknowledged(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path)
        ids = [await client.append("app", b"%d," % number) for number in range(100)]
        assert ids == list(range(1, 101))
        await client.wait_acknowledged()
        assert client.unacknowledged == 0
        assert setup.sink.content("app") == b"".join(b"%d," % number for number in range(100))
        assert setup.sink.records("app") == 100
        await client.close()
        await client.close()


async def test_waiting_for_one_append_waits_for_its_own_acknowledgement(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.store_held = True
        client = await connect(kind, setup.path)
        stored = await client.append("app", b"a", "store")
        durable = await client.append("app", b"b")
        await client.wait(durable)
        waiting = asyncio.create_task(client.wait(stored))
        await setup.sink.until(lambda: setup.sink.stored_asked == [("app", 1)])
        await asyncio.sleep(0.01)
        assert not waiting.done()
        setup.sink.make_stored()
        await waiting
        await client.close()


async def test_one_append_is_sent_at_once_though_nobody_waits(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path)
        await client.append("app", b"one")
        await setup.sink.until(lambda: setup.sink.content("app") == b"one")
        await client.append("app", b"two")
        await client.append("app", b"three")
        await setup.sink.until(lambda: setup.sink.content("app") == b"onetwothree")
        await client.close()


async def test_append_waits_while_too_much_is_unacknowledged(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.durability_held = True
        client = await connect(kind, setup.path, max_unacknowledged_records=10)
        for _ in range(10):
            await client.append("app", b"x")
        waiting = asyncio.create_task(client.append("app", b"y"))
        await setup.sink.until(lambda: setup.sink.records("app") == 10)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        setup.sink.make_durable()
        assert await waiting == 11
        await client.close()


async def test_an_append_larger_than_the_bound_is_sent_alone(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path, max_unacknowledged_bytes=1000)
        for _ in range(3):
            await client.append("app", b"x" * 5000)
        await client.wait_acknowledged()
        assert len(setup.sink.content("app")) == 15_000
        await client.close()


async def test_a_refused_append_is_told_and_the_client_goes_on(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path)
        good = await client.append("app", b"1")
        bad = await client.append("../x", b"2")
        with pytest.raises(AppendRefused) as caught:
            await client.wait(bad)
        assert (caught.value.code, caught.value.id) == ("bad_stream", bad)
        await client.wait(good)
        await client.append("app", b"3")
        await client.wait_acknowledged()
        assert setup.sink.content("app") == b"13"
        await client.close()


async def test_a_refusal_that_nobody_waits_for_is_told_by_the_next_call(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path)
        await client.append("../x", b"2")
        with pytest.raises(AppendRefused):
            await client.wait_acknowledged()
        await client.wait_acknowledged()
        await client.append("../y", b"2")
        while client.unacknowledged:
            await asyncio.sleep(0.001)
        with pytest.raises(AppendRefused):
            await client.append("app", b"3")
        await client.append("app", b"4")
        await client.close()
        assert setup.sink.content("app") == b"4"


async def test_a_record_over_the_agents_limit_is_refused_before_it_is_sent(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path, max_record_bytes=1000) as setup:
        client = await connect(kind, setup.path)
        for _ in range(5):
            await client.append("app", b"x" * 300)
        with pytest.raises(AppendRefused) as caught:
            await client.append("app", b"x" * 1001)
        assert caught.value.code == "record_too_large"
        await client.append("app", b"y" * 1000)
        await client.close()
        assert setup.sink.content("app") == b"x" * 1500 + b"y" * 1000
        assert setup.rejected("too_large") == 0


async def test_flush_and_status(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path)
        assert await client.status() == {"ready": True}
        with pytest.raises(RequestRefused):
            await client.flush("app")
        await client.append("app", b"x")
        await client.flush("app")
        await client.flush()
        assert setup.sink.flushes == ["app", None]
        assert setup.sink.content("app") == b"x", "a flush comes behind what was appended"
        await client.close()


@pytest.mark.parametrize("seed", range(5))
async def test_with_a_producer_name_everything_is_taken_exactly_once_through_cuts(
    tmp_path: Path, kind: str, seed: int
) -> None:
    rng = random.Random(seed)
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path, fresh_producer(), backoff_min=0.001)
        expected: dict[str, bytes] = {"a": b"", "b": b""}
        for number in range(300):
            stream = "a" if rng.random() < 0.8 else "b"
            data = b"%d;" % number + b"x" * rng.choice((0, 10, 5000))
            setup.sink.durability_held = rng.random() < 0.5
            if rng.random() < 0.05:
                cut_connections(setup)
            expected[stream] += data
            await client.append(stream, data)
        setup.sink.make_durable()
        await client.wait_acknowledged()
        assert {name: setup.sink.content(name) for name in "ab"} == expected
        await client.close()


async def test_without_a_producer_name_everything_is_taken_at_least_once_through_cuts(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.durability_held = True
        client = await connect(kind, setup.path, backoff_min=0.001)
        await client.append("app", b"one")
        await setup.sink.until(lambda: setup.sink.records("app") == 1)
        cut_connections(setup)
        await setup.sink.until(lambda: setup.sink.records("app") == 2)
        setup.sink.make_durable()
        await client.wait_acknowledged()
        assert setup.sink.content("app") == b"oneone"
        await client.close()


async def test_a_restarted_agent_is_found_again(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path, "p", backoff_min=0.001)
        await client.append("app", b"1")
        await client.wait_acknowledged()
        await setup.listener.close(5.0)
        await client.append("app", b"2")
        setup.listener = setup.another(setup.config)
        await setup.listener.start()
        await client.append("app", b"3")
        await client.wait_acknowledged()
        assert setup.sink.content("app") == b"123"
        await client.close()


async def test_what_asked_for_the_store_is_told_of_it_after_a_cut(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.store_held = True
        acked: list[int] = []
        client = await connect(
            kind, setup.path, backoff_min=0.001, on_ack=lambda id, _: acked.append(id)
        )
        id = await client.append("app", b"x", "store")
        await setup.sink.until(lambda: setup.sink.stored_asked == [("app", 1)])
        while acked != [id]:
            await asyncio.sleep(0.001)
        cut_connections(setup)
        waiting = asyncio.create_task(client.wait(id))
        await setup.sink.until(lambda: setup.sink.flushes == ["app"])
        assert not waiting.done()
        setup.sink.make_stored()
        await waiting
        assert setup.sink.records("app") == 1, "it was durable, so it is not sent again"
        await client.close()


async def test_a_flush_is_asked_again_after_a_cut(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.store_held = True
        client = await connect(kind, setup.path, "p", backoff_min=0.001)
        await client.append("app", b"x")
        waiting = asyncio.create_task(client.flush("app"))
        await setup.sink.until(lambda: setup.sink.flushes == ["app"])
        cut_connections(setup)
        await setup.sink.until(lambda: setup.sink.flushes == ["app", "app"])
        setup.sink.make_stored()
        await waiting
        assert setup.sink.content("app") == b"x"
        await client.close()


async def test_a_full_wal_that_refuses_is_waited_for(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.refuse_all = Rejected("wal_full", "no room", permanent=False)
        client = await connect(kind, setup.path, "p", backoff_min=0.001)
        for number in range(10):
            await client.append("app", b"%d" % number)
        while setup.rejected("wal_full") < 3:
            await asyncio.sleep(0.001)
        setup.sink.refuse_all = None
        await client.wait_acknowledged()
        assert setup.sink.content("app") == b"0123456789"
        await client.close()


async def test_a_producer_that_is_refused_a_stream_goes_on_with_the_rest(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.refusals["new"] = Rejected("too_many_streams", "no more", permanent=True)
        client = await connect(kind, setup.path, "p", backoff_min=0.001)
        bad = await client.append("new", b"x")
        good = await client.append("app", b"y")
        await client.wait(good)
        with pytest.raises(AppendRefused):
            await client.wait(bad)
        assert setup.sink.content("app") == b"y"
        await client.close()


async def test_ids_go_on_above_the_last_when_a_name_is_used_again(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        for expected in (1, 2):
            client = await connect(kind, setup.path, "p")
            assert await client.append("app", b"x") == expected
            await client.close()
        assert setup.sink.content("app") == b"xx"


async def test_a_client_whose_name_is_taken_over_says_so_and_does_not_fight(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        first = await connect(kind, setup.path, "p", backoff_min=0.001)
        await first.append("app", b"1")
        await first.wait_acknowledged()
        second = await connect(kind, setup.path, "p")
        with pytest.raises(Superseded):
            while True:
                await first.append("app", b"?")
                await first.wait_acknowledged()
        await second.append("app", b"2")
        await second.close()
        assert setup.sink.content("app") == b"12"
        await first.abort()


async def test_a_name_that_was_used_by_another_meanwhile_is_noticed(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path, "p", backoff_min=0.001)
        await client.append("app", b"1")
        await client.wait_acknowledged()
        setup.sink.marks["p"] = 77
        cut_connections(setup)
        with pytest.raises(Superseded):
            while True:
                await client.append("app", b"?")
                await client.wait_acknowledged()
        await client.abort()


async def test_no_agent_at_the_start_is_told_at_once(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConnectionLost, match="is it running"):
        await connect(kind, tmp_path / "nobody.sock")


async def test_no_agent_for_too_long_is_told(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(
            kind, setup.path, backoff_min=0.001, backoff_max=0.01, reconnect_timeout=0.05
        )
        setup.sink.durability_held = True
        await client.append("app", b"x")
        await setup.listener.close()
        with pytest.raises(ConnectionLost, match="no agent for too long"):
            await client.wait_acknowledged()
        with pytest.raises(ConnectionLost):
            await client.append("app", b"y")
        await client.abort()


async def test_a_closed_client_takes_nothing(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path)
        await client.close()
        with pytest.raises(ClientError, match="closed"):
            await client.append("app", b"x")


async def test_an_agent_with_a_lower_limit_after_a_restart_gets_smaller_frames(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.room = False
        client = await connect(kind, setup.path, "p", backoff_min=0.001)
        for number in range(100):
            await client.append("app", b"%02d" % number + b"x" * 98)
        large = await client.append("app", b"y" * 1001)
        last = await client.append("app", b"z")
        await setup.listener.close()
        setup.sink.room = True
        setup.config = type(setup.config)(setup.config.path, max_record_bytes=1000)
        setup.listener = setup.another(setup.config)
        await setup.listener.start()
        await client.wait(last)
        with pytest.raises(AppendRefused) as caught:
            await client.wait(large)
        assert caught.value.code == "record_too_large"
        content = setup.sink.content("app")
        assert content == b"".join(b"%02d" % n + b"x" * 98 for n in range(100)) + b"z"
        await client.close()


async def test_leaving_the_context_waits_for_the_acknowledgements(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        if kind == "async":
            async with AsyncClient(setup.path) as client:
                await client.append("app", b"x")
        else:

            def use() -> None:
                with Client(setup.path) as client:
                    client.append("app", b"x")

            await asyncio.to_thread(use)
        assert setup.sink.content("app") == b"x"


async def test_an_error_inside_the_context_is_told_after_what_was_appended_is_delivered(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        with pytest.raises(ZeroDivisionError):
            if kind == "async":
                async with AsyncClient(setup.path) as client:
                    await client.append("app", b"x")
                    raise ZeroDivisionError
            else:

                def use() -> None:
                    with Client(setup.path) as client:
                        client.append("app", b"x")
                        raise ZeroDivisionError

                await asyncio.to_thread(use)
        assert setup.sink.content("app") == b"x"


async def test_many_at_once(tmp_path: Path, kind: str) -> None:
    """Threads or tasks share one client; each one's appends stay in order."""
    async with listening(tmp_path) as setup:
        if kind == "async":
            async with AsyncClient(setup.path, "p") as client:

                async def task(name: str) -> None:
                    for number in range(200):
                        id = await client.append(name, b"%d," % number)
                        if number % 20 == 0:
                            await client.wait(id)

                await asyncio.gather(*(task(f"s{number}") for number in range(5)))
        else:

            def thread(client: Client, name: str) -> None:
                for number in range(200):
                    id = client.append(name, b"%d," % number)
                    if number % 20 == 0:
                        client.wait(id)

            def use() -> None:
                with Client(setup.path, "p") as client:
                    threads = [
                        threading.Thread(target=thread, args=(client, f"s{number}"))
                        for number in range(5)
                    ]
                    for one in threads:
                        one.start()
                    for one in threads:
                        one.join()

            await asyncio.to_thread(use)
        for number in range(5):
            expected = b"".join(b"%d," % number for number in range(200))
            assert setup.sink.content(f"s{number}") == expected


async def test_a_later_epoch_shuts_the_earlier_client_out(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        first = await connect(kind, setup.path, "p", epoch=1, backoff_min=0.001)
        await first.append("app", b"1")
        await first.wait_acknowledged()
        second = await connect(kind, setup.path, "p", epoch=2)
        assert await second.append("app", b"2") == 1, "ids begin anew"
        await second.wait_acknowledged()
        with pytest.raises(Fenced):
            while True:
                await first.append("app", b"?")
                await first.wait_acknowledged()
        with pytest.raises(Fenced):
            await connect(kind, setup.path, "p", epoch=1)
        cut_connections(setup)
        await second.append("app", b"3")
        await second.close()
        assert setup.sink.content("app") == b"123"
        await first.abort()


async def test_a_conditional_append_elsewhere_is_told_and_the_client_goes_on(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path, "p")
        await client.wait(await client.append("app", b"abc", expect_position=0))
        stale = await client.append("app", b"x", expect_position=0)
        with pytest.raises(PositionMismatch) as caught:
            await client.wait(stale)
        assert caught.value.positions == {"app": 3}
        await client.append("app", b"d", expect_position=3)
        await client.append("app", b"e", expect_position=4)
        await client.append("app", b"f")
        await client.close()
        assert setup.sink.content("app") == b"abcdef"


async def test_appends_to_several_streams_go_together(tmp_path: Path, kind: str) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path, "p")
        await client.append_together([("a", b"1"), ("b", b"22", 0)])
        await client.append_together([("a", b"3", 1), ("b", b"")], "store")
        await client.wait_acknowledged()
        cut_connections(setup)
        bad = await client.append_together([("a", b"?", 2), ("b", b"?", 1)])
        with pytest.raises(PositionMismatch) as caught:
            await client.wait(bad)
        assert caught.value.positions == {"b": 2}
        with pytest.raises(ValueError, match="same stream"):
            await client.append_together([("a", b"1"), ("a", b"2")])
        with pytest.raises(ValueError, match="at least one"):
            await client.append_together([])
        await client.close()
        assert (setup.sink.content("a"), setup.sink.content("b")) == (b"13", b"22")


async def test_conditional_appends_count_up_exactly_once_through_cuts(
    tmp_path: Path, kind: str
) -> None:
    async with listening(tmp_path) as setup:
        client = await connect(kind, setup.path, "p", backoff_min=0.001)
        for number in range(200):
            await client.append("app", b"%03d," % number, expect_position=4 * number)
            if number % 20 == 7:
                cut_connections(setup)
        await client.close()
        assert setup.sink.content("app") == b"".join(b"%03d," % n for n in range(200))
