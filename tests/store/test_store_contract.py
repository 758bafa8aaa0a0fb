"""What every store must do, tested once and run over each of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.base import (
    Buffer,
    ObjectInfo,
    Store,
    StoreConflict,
    StoreError,
    StoreNotFound,
    StoreRefused,
    StoreRetry,
)
from hf_agent.store.directory import DirectoryStore
from hf_agent.store.s3 import S3Store
from support.s3_servers.faults import Fault, SeededPlan
from support.s3_servers.persistent_store import PersistentStore
from support.s3_servers.seeds import fault_seeds, reported, seed_for
from support.s3_servers.servers import (  # noqa: F401 - fixtures
    S3Server,
    behind_faults,
    directory_buckets,
    directory_buckets_on_minio,
    minio,
    moto_s3,
)

Range = dict[str, Any]
"""Arguments of `get` that select a range."""

MIB = 1 << 20
THRESHOLD = 6 * MIB
"""Above this, S3 objects go up in parts of 5 MiB here."""

SIZES = {"empty": 0, "small": 160, "digest": 64 * 1024, "large": 64 * 1024 + 1}
"""Around the size where the directory store changes what its etag is made of."""


NOT_ASKED = frozenset({Fault.DELIVERED_LATE})
"""A write that arrives after a later delete brings the object back: nobody can tell by the store
alone, so what every store must do does not cover it. Containers, whose objects nobody deletes under
a writer, meet it in tests/faults."""

SERVERS = ["moto_s3", "minio", "directory_buckets"]
WITHOUT_FAULTS = ["directory", *SERVERS, "directory_buckets_on_minio"]
BEHIND_FAULTS = [f"{server}+faults-{seed}" for seed in fault_seeds(1) for server in SERVERS]
"""Each test of a store behind faults meets faults of its own: they are drawn from its name, too."""


@pytest.fixture(params=[*WITHOUT_FAULTS, *BEHIND_FAULTS])
def kind(request: pytest.FixtureRequest) -> str:
    """What the store is."""
    chosen: str = request.param
    return chosen


@pytest.fixture
async def store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with AsyncExitStack() as stack:
        made = make_store(kind, request, tmp_path, stack)
        yield made
        await made.close()


def make_store(
    kind: str, request: pytest.FixtureRequest, folder: Path, stack: AsyncExitStack
) -> Store:
    """The store, and in `stack` what has to be closed after it."""
    clock = SystemClock()
    if kind == "directory":
        return DirectoryStore(folder / "root", clock=clock, rng=random.Random(1))
    name, _, seed = kind.partition("+faults-")
    server: S3Server = request.getfixturevalue(name)
    bucket = server.make_bucket()
    options = server.options(multipart_threshold=THRESHOLD, part_bytes=5 * MIB)
    if not seed:
        return S3Store(bucket, "some/prefix", options=options, clock=clock)
    plan = SeededPlan(seed_for(int(seed), request.node.name), without=NOT_ASKED)
    stack.enter_context(reported(int(seed), request.node.nodeid, plan))
    faulty = stack.enter_context(behind_faults(server, plan))
    # A stalled answer lasts until the client gives up.
    options = replace(options, endpoint_url=faulty.endpoint_url, read_timeout=1.0)
    store = S3Store(bucket, "some/prefix", options=options, clock=clock)
    return PersistentStore(store, clock=clock, rng=random.Random(1))


def content(nbytes: int, seed: int = 7) -> bytes:
    return random.Random(seed).randbytes(nbytes)


async def listed(store: Store, prefix: str = "", delimiter: str = "") -> list[str]:
    items = [item async for item in store.list(prefix, delimiter=delimiter)]
    return sorted(item.key if isinstance(item, ObjectInfo) else item for item in items)


@pytest.mark.parametrize("nbytes", SIZES.values(), ids=SIZES.keys())
async def test_what_was_created_is_read_back(store: Store, nbytes: int) -> None:
    data = content(nbytes)
    etag = await store.create("a/b/object", data)
    got = await store.get("a/b/object")
    assert (got.data, got.offset) == (data, 0)
    assert (got.info.key, got.info.size, got.info.etag) == ("a/b/object", nbytes, etag)
    head = await store.head("a/b/object")
    assert (head.size, head.etag, head.last_modified) == (nbytes, etag, got.info.last_modified)


async def test_times_are_unix_seconds_by_one_clock(store: Store) -> None:
    before = SystemClock().time()
    await store.create("object", b"x")
    info = await store.head("object")
    after = SystemClock().time()
    assert before - 2 <= info.last_modified <= after + 2
    assert before - 2 <= info.date <= after + 2


async def test_several_buffers_are_stored_one_after_the_other(store: Store) -> None:
    data = content(200_000)
    body: list[Buffer] = [data[:1], b"", bytearray(data[1:100_000]), memoryview(data)[100_000:]]
    await store.create("object", body)
    assert (await store.get("object")).data == data


async def test_more_buffers_than_one_system_call_takes_are_stored(store: Store) -> None:
    data = content(30_000)
    await store.create("object", [data[at : at + 7] for at in range(0, len(data), 7)])
    assert (await store.get("object")).data == data


async def test_an_object_that_exists_is_not_created_again(store: Store) -> None:
    etag = await store.create("object", b"first")
    with pytest.raises(StoreConflict):
        await store.create("object", b"second")
    with pytest.raises(StoreConflict):
        await store.create("object", b"first")
    got = await store.get("object")
    assert (got.data, got.info.etag) == (b"first", etag)


@pytest.mark.parametrize("nbytes", [160, 70_000])
async def test_of_sixteen_that_create_one_wins(store: Store, nbytes: int) -> None:
    bodies = [content(nbytes, seed) for seed in range(16)]
    ends = await asyncio.gather(
        *(store.create("raced", body) for body in bodies), return_exceptions=True
    )
    winners = [index for index, end in enumerate(ends) if isinstance(end, str)]
    assert len(winners) == 1
    assert all(isinstance(end, str | StoreConflict) for end in ends)
    got = await store.get("raced")
    assert (got.data, got.info.etag) == (bodies[winners[0]], ends[winners[0]])


@pytest.mark.parametrize("nbytes", SIZES.values(), ids=SIZES.keys())
async def test_an_object_is_replaced_when_its_etag_matches(store: Store, nbytes: int) -> None:
    old = await store.create("object", b"old")
    data = content(nbytes)
    new = await store.replace("object", [data[:50], data[50:]], etag=old)
    assert new != old
    got = await store.get("object", if_match=new)
    assert (got.data, got.info.etag) == (data, new)


@pytest.mark.parametrize("nbytes", [160, 70_000])
async def test_an_object_that_has_changed_is_not_replaced(store: Store, nbytes: int) -> None:
    first = await store.create("object", content(nbytes, 1))
    second = await store.replace("object", content(nbytes, 2), etag=first)
    with pytest.raises(StoreConflict):
        await store.replace("object", content(nbytes, 3), etag=first)
    got = await store.get("object")
    assert (got.data, got.info.etag) == (content(nbytes, 2), second)


async def test_an_object_that_is_not_there_is_not_replaced(store: Store) -> None:
    await store.create("there", b"x")
    for key in ("gone", "no/such/directory"):
        with pytest.raises(StoreNotFound):
            await store.replace(key, b"new", etag='"some"')
        with pytest.raises(StoreNotFound):
            await store.head(key)


@pytest.mark.parametrize("nbytes", [160, 70_000])
async def test_of_sixteen_that_replace_one_wins(store: Store, nbytes: int) -> None:
    etag = await store.create("raced", content(nbytes, 99))
    bodies = [content(nbytes, seed) for seed in range(16)]
    ends = await asyncio.gather(
        *(store.replace("raced", body, etag=etag) for body in bodies), return_exceptions=True
    )
    winners = [index for index, end in enumerate(ends) if isinstance(end, str)]
    assert len(winners) == 1
    assert all(isinstance(end, str | StoreConflict) for end in ends)
    got = await store.get("raced")
    assert (got.data, got.info.etag) == (bodies[winners[0]], ends[winners[0]])


@pytest.mark.parametrize("kind", WITHOUT_FAULTS)
async def test_no_increment_is_lost_when_four_count_up(store: Store) -> None:
    """Not behind faults: a write whose answer was lost, and that another has already replaced, can
    be told from one that was refused by the content alone, as the next test does."""
    await store.create("counter", b"0")

    async def count(times: int) -> None:
        while times:
            found = await store.get("counter")
            body = str(int(found.data) + 1).encode()
            with contextlib.suppress(StoreConflict, StoreRetry):
                await store.replace("counter", body, etag=found.info.etag)
                times -= 1

    await asyncio.gather(*(count(5) for _ in range(4)))
    assert (await store.get("counter")).data == b"20"


async def test_no_line_is_lost_or_doubled_when_four_add_theirs(store: Store) -> None:
    await store.create("lines", b"")

    async def add(lines: list[bytes]) -> None:
        for line in lines:
            found = await store.get("lines")
            while line not in found.data:
                with contextlib.suppress(StoreConflict, StoreRetry):
                    await store.replace("lines", found.data + line, etag=found.info.etag)
                found = await store.get("lines")

    written = [[b"%d %d\n" % (writer, number) for number in range(5)] for writer in range(4)]
    await asyncio.gather(*(add(lines) for lines in written))
    stored = (await store.get("lines")).data.splitlines(keepends=True)
    for writer, lines in enumerate(written):
        assert [line for line in stored if line.startswith(b"%d " % writer)] == lines


@pytest.mark.parametrize("nbytes", [10, 64 * 1024 + 10])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"start": 0}, slice(0, None)),
        ({"start": 3}, slice(3, None)),
        ({"start": 3, "end": 7}, slice(3, 7)),
        ({"end": 4}, slice(0, 4)),
        ({"start": 3, "end": 1 << 40}, slice(3, None)),
        ({"start": 3, "end": 3}, slice(3, 3)),
        ({"start": 0, "end": 0}, slice(0, 0)),
        ({"suffix": 4}, slice(-4, None)),
        ({"suffix": 1 << 40}, slice(0, None)),
    ],
    ids=str,
)
async def test_a_range_is_read(store: Store, nbytes: int, asked: Range, expected: slice) -> None:
    data = content(nbytes)
    etag = await store.create("object", data)
    got = await store.get("object", **asked)
    assert got.data == data[expected]
    assert got.offset == expected.indices(nbytes)[0]
    assert (got.info.size, got.info.etag) == (nbytes, etag)


@pytest.mark.parametrize(
    "asked",
    [
        {"start": 10},
        {"start": 10, "end": 20},
        {"start": 1 << 40},
        {"suffix": 0},
    ],
    ids=str,
)
async def test_a_range_at_or_past_the_end_is_empty(store: Store, asked: Range) -> None:
    await store.create("object", content(10))
    got = await store.get("object", **asked)
    assert (got.data, got.offset, got.info.size) == (b"", 10, 10)


@pytest.mark.parametrize(
    "asked", [{}, {"start": 0}, {"start": 0, "end": 5}, {"suffix": 5}], ids=str
)
async def test_every_range_of_an_empty_object_is_empty(store: Store, asked: Range) -> None:
    await store.create("object", b"")
    got = await store.get("object", **asked)
    assert (got.data, got.offset, got.info.size) == (b"", 0, 0)


async def test_a_range_that_makes_no_sense_is_an_error_of_the_caller(store: Store) -> None:
    nonsense: list[Range] = [{"start": 1, "suffix": 1}, {"start": -1}, {"suffix": -1}]
    for asked in nonsense:
        with pytest.raises(ValueError, match="range"):
            await store.get("object", **asked)


@pytest.mark.parametrize("asked", [{}, {"start": 2}, {"start": 90_000}, {"suffix": 0}], ids=str)
@pytest.mark.parametrize("nbytes", [160, 70_000])
async def test_a_read_of_another_version_is_refused(
    store: Store, nbytes: int, asked: Range
) -> None:
    first = await store.create("object", content(nbytes, 1))
    await store.get("object", if_match=first, **asked)
    await store.replace("object", content(nbytes, 2), etag=first)
    with pytest.raises(StoreConflict):
        await store.get("object", if_match=first, **asked)


async def test_reading_what_is_not_there_says_so(store: Store) -> None:
    await store.create("dir/object", b"x")
    for key in ("nothing", "no/such/dir", "dir", "dir/object/below"):
        with pytest.raises(StoreNotFound, match=key):
            await store.get(key)
        with pytest.raises(StoreNotFound):
            await store.get(key, start=5)
        with pytest.raises(StoreNotFound):
            await store.head(key)


async def test_deleting_works_once_and_again(store: Store) -> None:
    await store.create("a/b/object", b"x")
    await store.create("a/other", b"y")
    await store.delete("a/b/object")
    with pytest.raises(StoreNotFound):
        await store.get("a/b/object")
    await store.delete("a/b/object")
    await store.delete("never/was")
    assert await listed(store) == ["a/other"]
    await store.create("a/b/object", b"anew")
    assert (await store.get("a/b/object")).data == b"anew"


KEYS = ["a", "ab", "b/c", "b/d/e", "b/d/f", "bc/x", "z/0000000001.0", "z/inode"]


@pytest.mark.parametrize(
    ("prefix", "delimiter", "expected"),
    [
        ("", "", KEYS),
        ("", "/", ["a", "ab", "b/", "bc/", "z/"]),
        ("a", "", ["a", "ab"]),
        ("b", "", ["b/c", "b/d/e", "b/d/f", "bc/x"]),
        ("b", "/", ["b/", "bc/"]),
        ("b/", "/", ["b/c", "b/d/"]),
        ("b/d", "/", ["b/d/"]),
        ("b/d/", "/", ["b/d/e", "b/d/f"]),
        ("z/000", "", ["z/0000000001.0"]),
        ("z/inode", "", ["z/inode"]),
        ("z/inode/", "", []),
        ("nothing", "", []),
        ("no/thing/", "/", []),
    ],
)
async def test_a_listing_has_what_starts_with_the_prefix(
    store: Store, prefix: str, delimiter: str, expected: list[str]
) -> None:
    await asyncio.gather(*(store.create(key, key.encode()) for key in KEYS))
    assert await listed(store, prefix, delimiter) == expected


@pytest.mark.parametrize("prefix", ["/", "b//", "../"])
async def test_a_prefix_of_no_usual_key_lists_nothing(store: Store, kind: str, prefix: str) -> None:
    await asyncio.gather(*(store.create(key, key.encode()) for key in KEYS))
    if "minio" in kind:  # which has no such keys
        with pytest.raises(StoreRefused, match=r"unsupported characters|bad components"):
            await listed(store, prefix)
    else:
        assert await listed(store, prefix) == []


async def test_a_delimiter_other_than_a_slash_is_an_error_of_the_caller(store: Store) -> None:
    with pytest.raises(ValueError, match="delimiter"):
        await listed(store, "", "-")


async def test_a_listing_of_an_empty_store_is_empty(store: Store) -> None:
    assert await listed(store) == []
    assert await listed(store, "some/", "/") == []


async def test_a_listing_tells_sizes_and_times(store: Store) -> None:
    await store.create("object", b"12345")
    head = await store.head("object")
    (info,) = [item async for item in store.list()]
    assert isinstance(info, ObjectInfo)
    assert (info.key, info.size) == ("object", 5)
    assert info.last_modified == pytest.approx(head.last_modified, abs=1)
    assert info.etag in ("", head.etag)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WITHOUT_FAULTS)  # a listing of several pages meets faults above
async def test_a_long_listing_is_complete(store: Store) -> None:
    keys = [f"many/{number:05d}" for number in range(1_100)]
    for at in range(0, len(keys), 50):
        await asyncio.gather(*(store.create(key, b"") for key in keys[at : at + 50]))
    assert await listed(store) == keys
    assert await listed(store, "many/", "/") == keys
    assert await listed(store, "", "/") == ["many/"]


async def test_a_listing_may_be_left_early(store: Store) -> None:
    for key in KEYS:
        await store.create(key, b"")
    items = store.list()
    async with contextlib.aclosing(items) as found:  # type: ignore[type-var]
        async for _ in found:
            break
    assert await listed(store) == KEYS


@pytest.mark.parametrize(
    "key",
    [
        "with space/and more",
        "percent%20%/%",
        "plus+equals=&amp;?#",
        "ünïcödé/日本語/🪵",
        "quotes'\"`<>\\",
        "tilde~dot./..a/.hidden",
        "x" * 200,
    ],
)
async def test_odd_keys_are_kept_as_they_are(store: Store, key: str) -> None:
    etag = await store.create(key, b"one")
    etag = await store.replace(key, b"two", etag=etag)
    assert (await store.get(key, if_match=etag)).data == b"two"
    assert await listed(store) == [key]
    assert await listed(store, key[:-1]) == [key]
    await store.delete(key)
    assert await listed(store) == []


async def test_metadata_is_kept_where_the_store_says_so(store: Store) -> None:
    etag = await store.create("object", b"x", metadata={"hf-write": "01ABC", "Other": "=+ /"})
    kept = {"hf-write": "01ABC", "other": "=+ /"} if store.supports_metadata else {}
    assert (await store.head("object")).metadata == kept
    assert (await store.get("object")).info.metadata == kept
    await store.replace("object", b"y", etag=etag, metadata={"hf-write": "02DEF"})
    kept = {"hf-write": "02DEF"} if store.supports_metadata else {}
    assert (await store.head("object")).metadata == kept


async def test_an_object_above_the_multipart_threshold_is_one_object(store: Store) -> None:
    data = content(11 * MIB + 12_345)
    body: list[Buffer] = [data[: 3 * MIB], memoryview(data)[3 * MIB : 9 * MIB], data[9 * MIB :]]
    etag = await store.create("big", body, metadata={"hf-write": "01"})
    got = await store.get("big")
    assert got.data == data
    assert got.info.etag == etag
    assert got.info.metadata == ({"hf-write": "01"} if store.supports_metadata else {})
    part = await store.get("big", start=5 * MIB - 10, end=5 * MIB + 10, if_match=etag)
    assert part.data == data[5 * MIB - 10 : 5 * MIB + 10]
    with pytest.raises(StoreConflict):
        await store.create("big", body)
    assert (await store.head("big")).etag == etag


async def test_a_large_object_is_replaced_only_when_its_etag_matches(store: Store) -> None:
    one, two, three = (content(THRESHOLD + 1, seed) for seed in (1, 2, 3))
    first = await store.create("big", one)
    second = await store.replace("big", two, etag=first)
    assert second != first
    with pytest.raises(StoreConflict):
        await store.replace("big", three, etag=first)
    with pytest.raises(StoreNotFound):
        await store.replace("gone", three, etag=first)
    got = await store.get("big", if_match=second)
    assert got.data == two


async def test_of_four_that_create_a_large_object_one_wins(store: Store) -> None:
    bodies = [content(THRESHOLD + 1, seed) for seed in range(4)]
    ends = await asyncio.gather(
        *(store.create("big", body) for body in bodies), return_exceptions=True
    )
    winners = [index for index, end in enumerate(ends) if isinstance(end, str)]
    assert len(winners) == 1
    assert all(isinstance(end, str | StoreConflict) for end in ends)
    assert (await store.get("big")).data == bodies[winners[0]]


async def test_a_store_is_closed_more_than_once(store: Store) -> None:
    await store.create("object", b"x")
    await store.close()
    await store.close()


async def test_errors_say_what_and_where_in_one_line(store: Store) -> None:
    await store.create("some/object", b"x")
    errors: list[StoreError] = []
    for operation in (
        store.get("no/object"),
        store.create("some/object", b"y"),
        store.replace("some/object", b"y", etag='"other"'),
    ):
        with pytest.raises(StoreError) as caught:
            await operation
        errors.append(caught.value)
    for error in errors:
        text = str(error)
        assert text[0].islower()
        assert "\n" not in text
        assert "object'" in text
        assert error.code
