"""A container, and every rule of the format broken in it, one at a time."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

from hf_agent.hyperfile import FileOptions, fingerprint
from hf_agent.hyperfile.check import check_structure
from support.files import KEY, FileBench
from support.memory_store import MemoryStore, StoredObject

__all__ = ["BREAKS", "INODE", "container", "drop", "name", "nodes", "patch"]

INODE = f"{KEY}/inode"
BLOCK = 4096

_built: dict[int, dict[str, StoredObject]] = {}


async def container(pointer_format: int = 3) -> MemoryStore:
    """A copy of a container that was built once."""
    if pointer_format not in _built:
        _built[pointer_format] = (await build(pointer_format)).objects
    store = MemoryStore()
    store.objects = {key: replace(each) for key, each in _built[pointer_format].items()}
    return store


async def build(pointer_format: int) -> MemoryStore:
    """Two checkpoints; the second has parts (in formats 3 and 4), and a map of several nodes."""
    part_bytes = 200_000 if pointer_format >= 3 else 1 << 30
    bench = FileBench(
        options=FileOptions(block_size=BLOCK, pointer_format=pointer_format, part_bytes=part_bytes)
    )
    rng = random.Random(1)
    file = await bench.open("x")
    await file.append(rng.randbytes(10_000))
    await file.flush()
    await file.pwrite(0, rng.randbytes(4 * BLOCK))
    for index in range(0, 800 * 255, 255):
        await file.pwrite(index * BLOCK, b"y")
    await file.append(b"the end")
    await file.flush()
    assert await check_structure(bench.store, KEY, created=bench.created, bases_after=0) == []
    return bench.store


def patch(store: MemoryStore, key: str, at: int, form: str, *values: int | bytes) -> None:
    """Overwrite fields; `at` counts from the end when it is negative."""
    body = bytearray(store.body(key))
    struct.pack_into("<" + form, body, at if at >= 0 else len(body) + at, *values)
    if body[-256:-252] == b"HFST":
        body[-4:] = struct.pack("<I", zlib.crc32(body[-256:-4]))
    store.objects[key].body = bytes(body)


def name(number: int, part: int = 0) -> str:
    return f"{KEY}/{number:010d}.{part}"


def meta_at(store: MemoryStore, key: str) -> int:
    s_bytes = int(struct.unpack_from("<I", store.body(key), 8)[0])
    return (s_bytes + 4095) // 4096 * 4096


def nodes(store: MemoryStore) -> dict[int, list[int]]:
    """Offsets of the map nodes in the second checkpoint, by their level."""
    key, found = name(2), dict[int, list[int]]()
    count = struct.unpack_from("<I", store.body(key), 200)[0]
    for number in range(count):
        at = meta_at(store, key) + number * 4096
        found.setdefault(store.body(key)[at + 1], []).append(at)
    return found


def both(store: MemoryStore, at: int, form: str, *values: int) -> None:
    """In the stored inode, and in its copy."""
    patch(store, INODE, at, form, *values)
    patch(store, name(2), 24 + at, form, *values)


def field_of(store: MemoryStore, at: int) -> int:
    return int(struct.unpack_from("<Q", store.body(INODE), at)[0])


def drop(store: MemoryStore, key: str) -> None:
    del store.objects[key]


def copy_value(store: MemoryStore, key: str, source: int, target: int) -> None:
    patch(store, key, target, "Q", struct.unpack_from("<Q", store.body(key), source)[0])


Break = Callable[[MemoryStore], object]

BREAKS: dict[str, tuple[Break, str]] = {
    "no inode": (lambda s: drop(s, INODE), "a container has an inode"),
    "a short inode": (
        lambda s: s.put(INODE, s.body(INODE)[:-1]),
        "an inode has 160 bytes, not 159",
    ),
    "no meta config": (lambda s: patch(s, INODE, 47, "B", 6), "a meta config stands at 44"),
    "nanoseconds": (lambda s: patch(s, INODE, 32, "I", 10**9), "nanoseconds of a time"),
    "last_seq": (lambda s: patch(s, INODE, 88, "Q", 1 << 30), "last_seq is at most 2^30-1"),
    "last_cno": (lambda s: patch(s, INODE, 96, "Q", 3), "last_cno is not over last_seq"),
    "compaction flag": (
        lambda s: patch(s, INODE, 60, "I", 8),
        "the compaction flag stands together with its metadata",
    ),
    "published compaction flag": (
        lambda s: patch(s, name(1), 24 + 60, "I", 8),
        "a checkpoint does not publish the compaction flag",
    ),
    "another inode": (
        lambda s: patch(s, INODE, 72, "Q", field_of(s, 72) + 1),
        "the inode is the one in the header of its checkpoint",
    ),
    "no checkpoint": (lambda s: drop(s, name(2)), "the checkpoint of the inode is there"),
    "count of blocks": (
        lambda s: both(s, 80, "Q", field_of(s, 80) + 8),
        "blocks is entries x block size / 512",
    ),
    "a block past the end": (
        lambda s: both(s, 72, "Q", 799 * 255 * BLOCK),
        "no block lies past the end of the file",
    ),
    "bytes past the end": (
        lambda s: both(s, 72, "Q", field_of(s, 72) - 1),
        "bytes past the end of the file are zero",
    ),
    "user data of the root": (
        lambda s: both(s, 108, "I", 4),
        "meta config and user data of the root name the same pointer format",
    ),
    "high user data of the root": (
        lambda s: both(s, 108, "I", 0x103),
        "the user data of the root is the pointer format",
    ),
    "level of the root": (lambda s: both(s, 105, "B", 15), "a map has at most 14 levels"),
    "flags of the root": (lambda s: both(s, 104, "B", 3), "a root of level 1 is a leaf"),
    "children of the root": (lambda s: both(s, 106, "H", 4), "a B+tree root has 1 to 3 children"),
    "no children": (lambda s: both(s, 106, "H", 0), "a B+tree root has 1 to 3 children"),
    "a direct root with a level": (
        lambda s: patch(s, name(1), 24 + 105, "B", 2),
        "a direct root has level 1 and no children",
    ),
    "level of a node": (
        lambda s: patch(s, name(2), nodes(s)[1][0] + 1, "B", 2),
        "levels descend by one",
    ),
    "flags of a node": (
        lambda s: patch(s, name(2), nodes(s)[1][0], "B", 3),
        "LEAF is set in leaves alone",
    ),
    "an empty node": (
        lambda s: patch(s, name(2), nodes(s)[1][0] + 2, "H", 0),
        "no node is empty, or over its capacity",
    ),
    "a node over its capacity": (
        lambda s: patch(s, name(2), nodes(s)[1][0] + 2, "H", 256),
        "no node is empty, or over its capacity",
    ),
    "user data of a node": (
        lambda s: patch(s, name(2), nodes(s)[1][0] + 4, "I", 3),
        "user data of a node below the root is 0",
    ),
    "first key of a leaf": (
        lambda s: patch(s, name(2), nodes(s)[1][1] + 8, "Q", 255 * 255 + 1),
        "a node's key in its parent is its own first key",
    ),
    "keys that do not ascend": (
        lambda s: copy_value(s, name(2), nodes(s)[1][0] + 8, nodes(s)[1][0] + 16),
        "keys ascend strictly",
    ),
    "keys that reach into the next node": (
        lambda s: patch(s, name(2), nodes(s)[1][0] + 8 + 8 * 254, "Q", 1 << 50),
        "keys ascend strictly",
    ),
    "a value that is no pointer": (
        lambda s: patch(s, name(2), nodes(s)[1][0] + 8 + 8 * 255, "Q", 12345),
        "a leaf holds block pointers",
    ),
    "the place of a block not placed yet": (
        lambda s: patch(s, name(2), nodes(s)[1][0] + 8 + 8 * 255, "Q", 0x3FFF_FFFF_FFFF_FFFF),
        "a leaf holds block pointers",
    ),
    "a child that is no pointer": (
        lambda s: patch(s, name(2), nodes(s)[2][0] + 8 + 8 * 255, "Q", 0),
        "an inner node holds pointers to map nodes",
    ),
    "a block of another index": (
        lambda s: copy_value(
            s, name(2), nodes(s)[1][0] + 8 + 8 * 255, nodes(s)[1][0] + 16 + 8 * 255
        ),
        "a data block has an entry with its own index",
    ),
    "a pointer past the blocks": (
        lambda s: patch(
            s, name(2), nodes(s)[1][0] + 8 + 8 * 255, "Q", 1 << 62 | 2 << 32 | 0x3FFFF << 14
        ),
        "a pointer leads to a data block",
    ),
    "a pointer to no node": (
        lambda s: patch(s, name(2), nodes(s)[2][0] + 8 + 8 * 255, "Q", 1 << 62 | 2 << 32),
        "a pointer leads to a map node",
    ),
    "a pointer to nowhere": (
        lambda s: patch(s, name(2), nodes(s)[1][0] + 8 + 8 * 255, "Q", 1 << 62 | 1 << 32 | 9),
        "a pointer leads to an object of the container",
    ),
    "a missing part": (lambda s: drop(s, name(2, 1)), "a pointer leads to an object"),
    "a map that knows the future": (
        lambda s: patch(
            s,
            *(name(1), 24 + 104 + 8, "Q"),
            struct.unpack_from("<Q", s.body(name(2)), 208 + 8)[0],
        ),
        "a map refers to older objects, or its own",
    ),
    "a part that is not partial": (
        lambda s: patch(s, name(2, 1), 12, "H", 0),
        "every part above 0 is partial",
    ),
    "ino of a header": (lambda s: patch(s, name(2), 184, "Q", 1), "ino of a header is 0"),
    "s_bytes": (lambda s: patch(s, name(2, 1), 8, "I", 208), "s_bytes is 208 + 16 x data blocks"),
    "block size in a header": (
        lambda s: patch(s, name(2, 1), 15, "B", 13),
        "a header has the block sizes of the inode",
    ),
    "a short object": (
        lambda s: s.put(name(2, 1), s.body(name(2, 1))[:-8192]),
        "all blocks that a header names are there",
    ),
    "filling of the summary": (
        lambda s: patch(s, name(1), 4095, "B", 1),
        "the summary is filled up with zeros",
    ),
    "entries that do not ascend": (
        lambda s: patch(s, name(2, 1), 208 + 16, "Q", 0),
        "entries ascend",
    ),
    "an entry for another slot": (
        lambda s: copy_value(s, name(2, 1), 208 + 8, 208 + 24),
        "the pointer of an entry leads to its own slot",
    ),
    "a base that is a later state": (
        lambda s: patch(s, name(1), 16, "Q", fingerprint(s.body(INODE))),
        "a base is the fingerprint of an earlier state",
    ),
    "a base that is no state": (
        lambda s: patch(s, name(2), 16, "Q", 5),
        "a base is the fingerprint of an earlier state",
    ),
    "the meta config of a checkpoint": (
        lambda s: patch(s, name(1), 24 + 45, "B", 13),
        "a checkpoint has the meta config of the inode",
    ),
    "the number of a checkpoint": (
        lambda s: patch(s, name(1), 24 + 88, "QQ", 2, 2),
        "the inode of checkpoint N has last_cno N",
    ),
    "an inline checkpoint": (
        lambda s: patch(s, name(1), 24 + 60, "I", 1),
        "an inline file has at most 80 bytes",
    ),
    "a part younger than part 0": (
        lambda s: setattr(s.objects[name(2, 1)], "last_modified", s.now + 60),
        "part 0 is written after every other part",
    ),
}
