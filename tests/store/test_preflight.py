"""The preflight: which stores pass, which do not, what it says, and that it leaves nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.base import (
    Body,
    ObjectData,
    ObjectInfo,
    StoreConflict,
    StoreRefused,
    StoreRetry,
)
from hf_agent.store.directory import DirectoryStore
from hf_agent.store.observer import coded
from hf_agent.store.preflight import preflight
from hf_agent.store.s3 import S3Store
from support.http_stub import Answer, Recorded, stub_server
from support.memory_store import Call, MemoryStore
from support.moto_s3 import MotoS3, moto_s3  # noqa: F401 - a fixture
from support.s3_stores import credentials, keep, made_stores, make  # noqa: F401 - fixtures

SCRATCH = ".scratch/01ARZ3NDEKTSV4RRFFQ69G5FAV"
Read = Callable[[ObjectData], ObjectData]


async def refused(store: MemoryStore | DirectoryStore | S3Store, reason: str) -> str:
    """The preflight's refusal, which has this reason; nothing is left behind."""
    with pytest.raises(StoreRefused, match=reason) as caught:
        await preflight(store, SCRATCH)
    if isinstance(store, MemoryStore):
        assert store.objects == {}
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.code
    return text


@pytest.mark.parametrize("kind", ["memory", "memory without metadata", "directory", "s3"])
async def test_a_good_store_passes_and_nothing_is_left(
    kind: str,
    tmp_path: Path,
    moto_s3: MotoS3,  # noqa: F811
) -> None:
    store: Any
    if kind == "directory":
        store = DirectoryStore(tmp_path, clock=SystemClock(), rng=random.Random(1))
    elif kind == "s3":
        bucket = moto_s3.make_bucket()
        store = keep(S3Store(bucket, "a/b", options=moto_s3.options(), clock=SystemClock()))
    else:
        store = MemoryStore(metadata=kind == "memory")
    await preflight(store, SCRATCH)
    await preflight(store, SCRATCH)
    assert [item async for item in store.list()] == []
    if kind == "s3":
        assert moto_s3.unfinished_uploads(bucket) == 0
    await store.close()


class Lenient(MemoryStore):
    """Ignores conditions, always or only while somebody else writes."""

    ignores: str
    only_when_raced = False

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        if self.ignores == "create" and await self._lets_pass(key not in self.objects):
            return self.put(key, bytes(body), metadata)  # type: ignore[arg-type]
        return await super().create(key, body, metadata=metadata)

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        found = self.objects.get(key)
        if self.ignores == "replace" and await self._lets_pass(
            found is not None and found.etag == etag
        ):
            return self.put(key, bytes(body), metadata)  # type: ignore[arg-type]
        return await super().replace(key, body, etag=etag, metadata=metadata)

    async def _lets_pass(self, holds: bool) -> bool:
        await asyncio.sleep(0)  # others look, too, before this one writes
        return holds or not self.only_when_raced


@pytest.mark.parametrize(
    ("ignores", "raced", "fault"),
    [
        ("create", False, "allowed creating an object that exists"),
        ("replace", False, "allowed replacing an object that has changed"),
        ("create", True, "allowed 8 of 8 that created an object at the same time"),
        ("replace", True, "allowed 8 of 8 that replaced an object at the same time"),
    ],
)
async def test_a_store_that_ignores_a_condition_is_found_out(
    ignores: str, raced: bool, fault: str
) -> None:
    store = Lenient()
    store.ignores, store.only_when_raced = ignores, raced
    text = await refused(store, "does not honour conditional writes")
    assert fault in text


async def test_a_second_write_without_an_answer_is_found_out_by_what_is_there() -> None:
    """One racer is told that it won, while another one's bytes are stored."""
    store = MemoryStore()
    writes = 0

    def after(call: Call) -> None:
        nonlocal writes
        if call.operation == "create" and call.key.endswith("/raced"):
            writes += 1
            store.put(call.key, call.body.replace(b"1", b"2"), call.metadata)

    store.after = after
    await refused(store, "more than one of 8 that created an object at the same time")
    assert writes == 1  # the others were refused


class InParts(MemoryStore):
    """Writes in parts, with or without the condition on the last request."""

    honours = False

    async def create_in_parts(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        if self.honours:
            return await self.create(key, body, metadata=metadata)
        return self.put(key, bytes(body), metadata)  # type: ignore[arg-type]


async def test_a_condition_that_is_ignored_on_uploads_in_parts_is_found_out() -> None:
    store = InParts()
    await refused(store, "allowed creating an object that exists, in parts")
    store.honours = True
    await preflight(store, SCRATCH)
    assert store.objects == {}


class Twisted(MemoryStore):
    """Answers reads in another way than it should."""

    def __init__(self, **twists: Callable[[Any], Any]) -> None:
        super().__init__()
        self._twists = twists

    async def get(self, key: str, **asked: Any) -> ObjectData:
        got = await super().get(key, **asked)
        kind = next((name for name in ("suffix", "start") if asked.get(name) is not None), "whole")
        return self._twists.get(kind, _same)(got)  # type: ignore[no-any-return]

    async def head(self, key: str) -> ObjectInfo:
        return self._twists.get("head", _same)(await super().head(key))  # type: ignore[no-any-return]

    async def delete(self, key: str) -> None:
        if self._twists.get("delete", _same)(key):
            await super().delete(key)

    async def list(
        self, prefix: str = "", *, delimiter: str = ""
    ) -> AsyncIterator[ObjectInfo | str]:
        async for item in super().list(prefix, delimiter=delimiter):
            if self._twists.get("list", _same)(item):
                yield item


def _same(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("twist", "reason"),
    [
        ({"whole": lambda got: replace(got, data=got.data[:-1] + b"?")}, "gives other bytes than"),
        ({"start": lambda got: replace(got, data=got.data[1:])}, "a read of a range gives other"),
        ({"start": lambda got: replace(got, offset=0)}, "a read of a range gives other"),
        ({"suffix": lambda got: replace(got, data=bytes(64))}, "a read of the last bytes gives"),
        ({"head": lambda info: replace(info, size=7)}, "another size or etag"),
        ({"head": lambda info: replace(info, etag="other")}, "another size or etag"),
        ({"head": lambda info: replace(info, metadata={})}, "user metadata is not kept"),
        ({"list": lambda item: "alone" not in item.key}, "a listing lacks an object .*/alone"),
    ],
)
async def test_a_store_that_reads_wrong_is_refused(twist: dict[str, Any], reason: str) -> None:
    await refused(Twisted(**twist), reason)


async def test_a_store_that_does_not_delete_is_refused() -> None:
    store = Twisted(delete=lambda key: False)
    with pytest.raises(StoreRefused, match="still there after it was deleted"):
        await preflight(store, SCRATCH)


async def test_scratch_keys_in_use_are_left_alone() -> None:
    store = MemoryStore()
    store.put(f"{SCRATCH}/alone", b"somebody's")
    with pytest.raises(StoreRefused, match="a listing of unused keys shows 1 objects"):
        await preflight(store, SCRATCH)
    assert store.body(f"{SCRATCH}/alone") == b"somebody's"


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        (
            "list",
            "listing is denied: allow s3:ListBucket on the bucket (else S3 answers 403",
        ),
        ("get", "reading is denied: allow s3:GetObject, and s3:ListBucket with no condition"),
        ("head", "reading is denied: allow s3:GetObject"),
        ("create", "writing is denied: allow s3:PutObject"),
        ("replace", "writing is denied: allow s3:PutObject"),
        ("delete", "deleting is denied: allow s3:DeleteObject"),
    ],
)
async def test_a_missing_right_is_named(operation: str, named: str) -> None:
    store = MemoryStore()

    def deny(call: Call) -> None:
        if call.operation == operation:
            text = f"{operation} failed: access denied; words bucket=b key='k' code=AccessDenied"
            raise coded(StoreRefused(text), "AccessDenied")

    store.before = deny
    with pytest.raises(StoreRefused) as caught:
        await preflight(store, SCRATCH)
    text = str(caught.value)
    assert text.startswith(named)
    assert "s3express:CreateSession" in text
    assert text.endswith(" bucket=b key='k' code=AccessDenied")
    assert caught.value.code == "AccessDenied"


async def test_without_the_right_to_list_the_answer_for_an_absent_object_is_explained() -> None:
    """A policy that allows listing by prefix only: S3 still answers 403 for what is absent."""

    def respond(request: Recorded) -> Answer:
        if "list-type" in request.query:
            return Answer(
                body=b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
            )
        return Answer(
            403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        )

    async with stub_server() as stub:
        stub.respond = respond
        with pytest.raises(StoreRefused, match="S3 answers 403 for an object that is absent"):
            await preflight(make(stub.url), SCRATCH)


async def test_another_refusal_is_passed_on_as_it_is() -> None:
    store = MemoryStore()

    def refuse(call: Call) -> None:
        raise coded(StoreRefused("no such bucket; create the bucket"), "NoSuchBucket")

    store.before = refuse
    assert await refused(store, "create the bucket") == "no such bucket; create the bucket"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_fault_at_any_call_is_got_over(when: str) -> None:
    """Before the call has its effect, or with its answer lost."""
    number = 0
    while True:
        store = MemoryStore()
        calls = [0]

        def fail(call: Call, calls: list[int] = calls, number: int = number) -> None:
            calls[0] += 1
            if calls[0] == number + 1:
                raise StoreRetry("fault")

        setattr(store, when, fail)
        await preflight(store, SCRATCH)
        if calls[0] <= number:
            break
        assert store.objects == {}, number
        number += 1
    assert number > (30 if when == "before" else 15)


async def test_a_store_that_goes_away_at_any_call_leaves_it_open() -> None:
    number = 0
    while True:
        store = MemoryStore()
        calls = [0]

        def away(call: Call, calls: list[int] = calls, number: int = number) -> None:
            calls[0] += 1
            if calls[0] > number:
                raise StoreRetry("no route to host")

        store.before = away
        try:
            await preflight(store, SCRATCH)
        except StoreRetry as error:
            assert str(error) == "no route to host"
        else:
            break
        number += 1
    assert number > 30


@pytest.mark.parametrize("seed", range(30))
async def test_random_faults_never_make_a_good_store_unfit(seed: int) -> None:
    print(f"seed={seed}")
    rng = random.Random(seed)
    store = MemoryStore()

    def fault(call: Call) -> None:
        if rng.random() < 0.15:
            kind = rng.choice((StoreRetry, StoreRetry, StoreRefused))
            raise coded(kind("fault"), "AccessDenied" if kind is StoreRefused else "500")

    store.before = store.after = fault
    for attempt in range(20):
        try:
            await preflight(store, f"{SCRATCH}{attempt}")
        except StoreRetry:
            continue
        except StoreRefused as error:
            assert error.code == "AccessDenied"
            continue
        break
    else:
        pytest.fail("it never passed")


async def test_a_write_that_was_sent_twice_on_its_way_counts_once() -> None:
    """The second copy is refused, and its answer is the one that comes back."""
    number = 0
    while True:
        store = MemoryStore()
        calls = [0]

        def doubled(call: Call, calls: list[int] = calls, number: int = number) -> None:
            if call.operation in ("create", "replace"):
                calls[0] += 1
                if calls[0] == number + 1:
                    raise StoreConflict("the object exists")

        store.after = doubled
        await preflight(store, SCRATCH)
        if calls[0] <= number:
            break
        number += 1
    assert number >= 4


async def test_a_store_that_refuses_good_writes_is_not_fit() -> None:
    store = MemoryStore()

    def refuse(call: Call) -> None:
        if call.operation == "replace":
            raise coded(StoreConflict("no"), "PreconditionFailed")

    store.before = refuse
    await refused(store, "refused whose condition holds .PreconditionFailed.")


async def test_a_preflight_that_is_cancelled_leaves_nothing() -> None:
    store = MemoryStore()
    reached = asyncio.Event()

    class Waiting(MemoryStore):
        async def head(self, key: str) -> ObjectInfo:
            if not key.endswith("absent"):
                reached.set()
                await asyncio.Event().wait()
            return await super().head(key)

    store = Waiting()
    task = asyncio.create_task(preflight(store, SCRATCH))
    await reached.wait()
    assert store.objects
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.objects == {}
