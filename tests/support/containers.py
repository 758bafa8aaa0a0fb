"""Reads what an agent has stored, with the library, not with the agent."""

from __future__ import annotations

import asyncio

from hf_agent.clock import SystemClock, system_random
from hf_agent.hyperfile.errors import NoSuchContainer
from hf_agent.hyperfile.reader import Reader
from hf_agent.store.base import Store
from hf_agent.store.options import S3Options
from hf_agent.store.url import open_store
from support.agent_process import AgentProcess


def agent_store(agent: AgentProcess) -> Store:
    """The store that the agent writes to."""
    return open_store(
        agent.store_url,
        options=S3Options(**agent.s3),
        clock=SystemClock(),
        rng=system_random(),
    )


async def read_container(agent: AgentProcess, key: str) -> bytes:
    """The whole content of one container below the agent's store."""
    store = agent_store(agent)
    try:
        reader = await Reader.open(store, key)
        return await reader.read(0, reader.size)
    finally:
        await store.close()


def stored_lines(agent: AgentProcess, stream: str) -> list[bytes]:
    """The whole lines of a stream's container as it is now; none if there is no container yet."""
    try:
        content = asyncio.run(read_container(agent, f"node-1/{stream}"))
    except NoSuchContainer:
        return []
    return content.split(b"\n")[:-1]
