"""What several writers of one key have stored: the container, its siblings, and who wrote what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hf_agent.hyperfile import Reader, list_containers
from hf_agent.store.base import Store


async def read_family(store: Store, key: str) -> dict[str, bytes]:
    """Contents of the container at `key` and of its siblings, that one first."""
    keys = [found async for found in list_containers(store, key)]
    family = sorted(found for found in keys if found == key or found.startswith(f"{key}.conflict-"))
    contents = {}
    for member in family:
        reader = await Reader.open(store, member)
        contents[member] = await reader.read(0, reader.size)
    return contents


def check_exactly_once(
    family: Mapping[str, bytes], appended: Mapping[bytes, Sequence[bytes]]
) -> None:
    """Every writer's lines are there once, in its order, from the container on to its sibling.

    `appended` has each writer's lines by how they all begin; nobody else has written.
    """
    lines = b"".join(family.values()).splitlines(keepends=True)
    for prefix, own in appended.items():
        stored = [line for line in lines if line.startswith(prefix)]
        missing = set(own) - set(stored)
        assert not missing, f"lost: {len(missing)}, such as {min(missing)!r}"
        doubled = (
            {line for line in stored if stored.count(line) > 1} if len(stored) > len(own) else set()
        )
        assert not doubled, f"stored twice: {len(doubled)}, such as {min(doubled)!r}"
        assert stored == list(own), f"not in the order of {prefix!r}"
    assert len(lines) == sum(map(len, appended.values()))
