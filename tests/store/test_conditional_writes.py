"""The probe for stores that ignore the conditions of writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock, system_random
from hf_agent.store.base import Body, StoreConflict, StoreRefused
from hf_agent.store.conditional_writes import check_conditional_writes
from hf_agent.store.directory import DirectoryStore


class Lenient(DirectoryStore):
    """Ignores conditions, as some servers do."""

    def __init__(self, root: Path, *, create: bool, replace: bool) -> None:
        super().__init__(root, clock=SystemClock(), rng=system_random())
        self._create_anyway = create
        self._replace_anyway = replace

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        try:
            return await super().create(key, body, metadata=metadata)
        except StoreConflict:
            if not self._create_anyway:
                raise
            return await super().replace(key, body, etag=(await self.head(key)).etag)

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        current = (await self.head(key)).etag if self._replace_anyway else etag
        return await super().replace(key, body, etag=current, metadata=metadata)


@pytest.mark.parametrize(
    ("create", "replace", "fault"),
    [
        (False, False, ""),
        (True, False, "creating an object that exists"),
        (False, True, "replacing an object that has changed"),
    ],
)
async def test_a_store_that_ignores_a_condition_is_found_out(
    tmp_path: Path, create: bool, replace: bool, fault: str
) -> None:
    store = Lenient(tmp_path, create=create, replace=replace)
    if fault:
        with pytest.raises(StoreRefused, match=fault):
            await check_conditional_writes(store, "scratch")
    else:
        await check_conditional_writes(store, "scratch")
    assert [entry async for entry in store.list()] == []
    await store.close()
