"""The stores that a torture can run on: a directory, or an S3 server behind the fault proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hf_agent.clock import SystemClock, system_random
from hf_agent.store.base import ObjectInfo, Store
from hf_agent.store.directory import DirectoryStore
from hf_agent.store.s3 import S3Store
from support.moto_s3 import running_moto
from support.s3_servers.faults import SeededPlan
from support.s3_servers.minio import HOW_TO_GET_MINIO, find_minio, running_minio
from support.s3_servers.servers import S3Server, behind_faults

__all__ = ["STORES", "TorturedStore", "tortured_store"]

STORES = ("directory", "moto", "minio")
_PREFLIGHT = "/.hf-agent-preflight/"
"""Spared by the faults: a short life would end before any flush. It meets them elsewhere."""
_WITHOUT_END = 1 << 60


@dataclass
class TorturedStore:
    """Where an agent stores, and how its objects are read in the end, past all faults."""

    url: str
    root: Path | None = None
    server: S3Server | None = None
    bucket: str = ""
    s3: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    faults: SeededPlan | None = None

    def objects(self) -> dict[str, bytes]:
        """All objects below the URL, by key."""
        if self.root is not None:
            files = [path for path in self.root.rglob("*") if path.is_file()]
            return {
                str(path.relative_to(self.root)): path.read_bytes()
                for path in files
                if not path.name.startswith((".hf-tmp-", ".hf-lock-"))
            }
        return asyncio.run(self._s3_objects())

    def open(self) -> Store:
        """The store, past all faults."""
        clock = SystemClock()
        if self.root is not None:
            return DirectoryStore(self.root, clock=clock, rng=system_random())
        assert self.server is not None
        return S3Store(self.bucket, "logs", options=self.server.options(), clock=clock)

    async def _s3_objects(self) -> dict[str, bytes]:
        store = self.open()
        try:
            found = [item async for item in store.list()]
            keys = [item.key for item in found if isinstance(item, ObjectInfo)]
            return {key: (await store.get(key)).data for key in keys}
        finally:
            await store.close()

    def leftovers(self) -> dict[str, int]:
        """Files of the directory store's own, by kind."""
        if self.root is None:
            return {}
        names = [path.name for path in self.root.rglob(".hf-*") if path.is_file()]
        return {
            kind: sum(name.startswith(prefix) for name in names)
            for kind, prefix in (("temporary files", ".hf-tmp-"), ("lock files", ".hf-lock-"))
        }


@contextmanager
def tortured_store(name: str, folder: Path, seed: int, *, rate: float) -> Iterator[TorturedStore]:
    """A store of its own below `folder`; `rate` is the share of requests that meet a fault."""
    if name == "directory":
        yield TorturedStore(f"file://{folder}/store", root=folder / "store")
        return
    with ExitStack() as stack:
        server: S3Server
        if name == "moto":
            server = stack.enter_context(running_moto())
        else:
            binary = find_minio()
            if binary is None:
                raise SystemExit(HOW_TO_GET_MINIO)
            data = folder / "minio"
            data.mkdir(parents=True)
            server = stack.enter_context(running_minio(binary, data))
        bucket = server.make_bucket()
        plan = SeededPlan(seed, rate=rate, horizon=_WITHOUT_END)
        faulty = stack.enter_context(behind_faults(server, plan, stall=1.0, spared=_PREFLIGHT))
        yield TorturedStore(
            f"s3://{bucket}/logs",
            server=server,
            bucket=bucket,
            s3={
                "endpoint_url": faulty.endpoint_url,
                "addressing": "path",
                "read_timeout": "500ms",
            },
            env=server.env,
            faults=plan,
        )
