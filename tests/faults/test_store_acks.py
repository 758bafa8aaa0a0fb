"""The acknowledgement `store` through a store that is away, a kill, a stop and a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_agent.client import Client
from support.agent_process import AgentProcess
from support.containers import read_container


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    flush = 'interval = "50ms"\nshutdown_timeout = "200ms"\nretry_max = "200ms"'
    process = AgentProcess(tmp_path / "a", flush=flush)
    yield process
    process.close()


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_store_is_said_only_when_the_store_has_it_whatever_ends_in_between(
    agent: AgentProcess, end: str
) -> None:
    store = agent.folder / "store"
    # A file where the store's directory should be: nothing can be stored.
    store.write_text("in the way")
    agent.start()
    client = Client(agent.append_socket, "p", epoch=1, reconnect_timeout=120)
    durable = client.append("wal", b"w")
    ids = [
        client.append("app", b"1", "store"),
        client.append_together([("app", b"2"), ("other", b"3")], "store"),
    ]
    client.wait(durable, timeout=60)
    for id in ids:
        with pytest.raises(TimeoutError):
            client.wait(id, timeout=0.3)
    assert client.unacknowledged == 0, "it is durable, which is another matter"
    if end == "kill":
        agent.kill()
    else:
        agent.stop()
    agent.start()
    with pytest.raises(TimeoutError):
        client.wait(ids[0], timeout=0.3)
    later = client.append("app", b"4", "store")
    store.unlink()
    store.mkdir()
    for id in (*ids, later):
        client.wait(id, timeout=60)
    # All of it is there by now, without a stop: the agent is killed before anybody looks.
    agent.kill()
    client.abort()

    def stored(stream: str) -> bytes:
        return asyncio.run(read_container(agent, f"node-1/{stream}"))

    assert (stored("app"), stored("other")) == (b"124", b"3")
