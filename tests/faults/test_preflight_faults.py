"""A preflight whose answers are lost, late, doubled or wrong is tried again, and blames nobody."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from hf_agent.clock import SystemClock
from hf_agent.service.store_start import preflight_attempt
from hf_agent.store.base import ObjectInfo, StoreRefused, StoreRetry
from hf_agent.store.s3 import S3Store
from support.s3_servers.faults import Fault, SeededPlan
from support.s3_servers.seeds import fault_seeds, reported
from support.s3_servers.servers import (
    S3Server,
    behind_faults,
    directory_buckets,
    minio,
    moto_s3,
)

__all__ = ["directory_buckets", "minio", "moto_s3"]

RATE = 0.05
"""All requests of one preflight have to come through, and there are dozens."""
NOT_MET = frozenset({Fault.DELIVERED_LATE})
"""A write that arrives after the scratch keys were removed leaves one behind."""
MOST_TRIES = 200


async def pass_in_the_end(attempt: Callable[[], Awaitable[None]]) -> None:
    """Try until it passes; what it meets may be anything but a fault of the server's."""
    for _ in range(MOST_TRIES):
        try:
            await attempt()
            return
        except StoreRetry:
            continue
        except StoreRefused as error:
            assert error.code in ("AccessDenied", "403"), error  # a window of 403
    raise AssertionError("it never passed")


@pytest.mark.parametrize("seed", fault_seeds(2))
@pytest.mark.parametrize("name", ["moto_s3", "minio", "directory_buckets"])
async def test_behind_faults_the_preflight_passes_in_the_end_and_refuses_no_good_server(
    request: pytest.FixtureRequest, name: str, seed: int
) -> None:
    server: S3Server = request.getfixturevalue(name)
    bucket = server.make_bucket()
    plan = SeededPlan(seed, rate=RATE, without=NOT_MET)
    with reported(seed, request.node.nodeid, plan), behind_faults(server, plan) as faulty:
        store = S3Store(bucket, options=faulty.options(read_timeout=1.0), clock=SystemClock())
        attempt = preflight_attempt(store, clock=SystemClock(), rng=random.Random(seed))
        try:
            while not plan.log:  # until something went wrong
                await pass_in_the_end(attempt)
        finally:
            await store.close()
    plain = S3Store(bucket, options=server.options(), clock=SystemClock())
    left = [item async for item in plain.list() if isinstance(item, ObjectInfo)]
    await plain.close()
    # A delete that met a fault in the clean-up of a failed try leaves that key: no more than those.
    assert all(item.key.startswith(".hf-agent-preflight/") for item in left)
