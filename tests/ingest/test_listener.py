"""A listener's life: start, too many connections, stop."""

from __future__ import annotations

import asyncio
import errno
import socket
import stat
from pathlib import Path

import pytest

from hf_agent.ingest.listener import ListenerError
from support.listening import SocketConfig, listening
from support.manual_clock import ManualClock
from support.wire import Wire, frame


async def test_the_socket_is_there_with_its_mode_and_gone_after_the_close(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        found = setup.path.stat()
        assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o660
        assert setup.metric("max_connections", protocol="append") == 100
        wire = await Wire.connect(setup.path)
        assert setup.metric("open_connections", protocol="append") == 1
        await setup.listener.close()
        await setup.listener.close()
        assert not setup.path.exists()
        assert setup.metric("open_connections", protocol="append") == 0
        assert setup.metric("max_connections", protocol="append") == 0
        await wire.close()


async def test_a_socket_that_another_process_put_there_meanwhile_is_left_alone(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(setup.path))
            await setup.listener.close()
            assert setup.path.exists()


async def test_a_second_listener_on_the_same_path_is_refused_and_the_first_goes_on(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        with pytest.raises(ListenerError, match="in use by a running process"):
            await setup.another(setup.config).start()
        wire = await Wire.connect(setup.path)
        await wire.close()


async def test_a_listener_that_never_started_can_be_closed(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        other = setup.another(SocketConfig(str(tmp_path / "missing" / "s")))
        with pytest.raises(ListenerError):
            await other.start()
        other.stop_accepting()
        await other.close()


@pytest.mark.parametrize("protocol", ["append", "lines"])
async def test_too_many_connections_are_told_and_closed(tmp_path: Path, protocol: str) -> None:
    async with listening(tmp_path, max_connections=2, protocol=protocol) as setup:
        kept = [await asyncio.open_unix_connection(str(setup.path)) for _ in range(2)]
        while setup.listener.connections < 2:
            await asyncio.sleep(0.001)
        reader, writer = await asyncio.open_unix_connection(str(setup.path))
        said = b""
        try:
            async with asyncio.timeout(20):
                while chunk := await reader.read(1000):
                    said += chunk
        except ConnectionError:
            pass
        assert b"too_many_connections" in said and b"limit=2" in said
        writer.close()
        kept.pop()[1].close()
        while setup.listener.connections > 1:
            await asyncio.sleep(0.001)
        reader, writer = await asyncio.open_unix_connection(str(setup.path))
        while setup.listener.connections < 2:
            await asyncio.sleep(0.001)
        assert not reader.at_eof()
        writer.close()
        kept.pop()[1].close()


async def test_a_client_that_is_gone_gives_its_place_up_though_the_store_is_away(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, max_connections=1) as setup:
        setup.sink.store_held = True
        gone = await Wire.connect(setup.path)
        gone.send("append", 1, "app", b"x", "store")
        await gone.receive_until("ack", 1)
        gone.end_writing()
        while not all(c._ending for c in setup.listener._endpoint.connections):
            await asyncio.sleep(0.001)
        await gone.close()
        wire = await Wire.connect(setup.path)
        await wire.close()


async def test_a_stop_answers_what_was_taken_and_tells_clients_to_come_again(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.durability_held = setup.sink.store_held = True
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"x")
        wire.send("append", 2, "app", b"y", "store")
        wire.send("flush", 1, None)
        wire.send_bytes(frame("append", 3, "app", b"half")[:-1])
        await setup.sink.until(lambda: len(setup.sink.flushes) == 1)
        closing = asyncio.create_task(setup.listener.close(20.0))
        await asyncio.sleep(0.01)
        assert not closing.done(), "what was taken is to be acknowledged"
        setup.sink.make_durable()
        messages = await wire.rest()
        assert messages[-2][:2] == ["ack", 2]
        assert messages[-1][:2] == ["error", "shutting_down"]
        await wire.close()
        await closing
        assert setup.rejected("incomplete") == 1


async def test_a_stop_does_not_wait_for_the_store_for_a_client_that_ended_its_side(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.store_held = True
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"y", "store")
        wire.end_writing()
        await wire.receive_until("ack", 1)
        await setup.listener.close(20.0)
        assert (await wire.rest())[-1][1] == "shutting_down"
        await wire.close()


async def test_a_stop_has_an_end_whatever_is_outstanding(tmp_path: Path) -> None:
    async with listening(tmp_path) as setup:
        setup.sink.durability_held = True
        wire = await Wire.connect(setup.path)
        wire.send("append", 1, "app", b"x")
        await setup.sink.until(lambda: len(setup.sink.taken) == 1)
        assert await setup.listener.drain(0.01) == 1
        await setup.listener.close()
        assert await wire.rest() == []
        await wire.close()


async def test_accepting_pauses_when_there_are_no_descriptors_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    async with listening(tmp_path, clock=clock) as setup:
        acceptor = setup.listener._acceptor
        assert acceptor is not None

        class Exhausted:
            def __init__(self, real: socket.socket) -> None:
                self.real = real

            def accept(self) -> None:
                raise OSError(errno.EMFILE, "too many open files")

            def fileno(self) -> int:
                return self.real.fileno()

            def close(self) -> None:
                self.real.close()

        real = acceptor._listening
        monkeypatch.setattr(acceptor, "_listening", Exhausted(real))
        connecting = asyncio.create_task(Wire.connect(setup.path))
        await clock.until_asleep()
        monkeypatch.setattr(acceptor, "_listening", real)
        await clock.advance(1.0)
        wire = await connecting
        await wire.close()
