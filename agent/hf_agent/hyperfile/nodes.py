"""Nodes of the block map as bytes: the direct root, the B+tree root, and all other nodes.

A node is 8 bytes of head (flags, level, children, user data), then all keys, then all values.
What stands behind the last child is undefined, and neither read nor compared.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise

from hf_agent.hyperfile.errors import FormatError
from hf_agent.hyperfile.meta_config import ROOT_BYTES
from hf_agent.hyperfile.pointers import HOLE, is_data_pointer, is_place

__all__ = [
    "DIRECT_POINTERS",
    "DIRECT_ROOT_BYTES_EMPTY",
    "MAX_LEVEL",
    "ROOT_CAPACITY",
    "Node",
    "Root",
    "decode_any_node",
    "decode_node",
    "decode_root",
    "encode_node_into",
    "encode_root",
    "node_capacity",
    "pack_user_data",
]

DIRECT_POINTERS = (ROOT_BYTES - 8) // 8
ROOT_CAPACITY = (ROOT_BYTES - 8) // 16
MAX_LEVEL = 14
MAX_INDEX = (1 << 64) - 1

_HEAD = struct.Struct("<BBHI")
_LARGE = 0x1
_LEAF = 0x2
_KEYS_AT = 8
_DIRECT = struct.Struct(f"<{DIRECT_POINTERS}Q")

DIRECT_ROOT_BYTES_EMPTY = _HEAD.pack(0, 1, 0, 0) + bytes(ROOT_BYTES - 8)


@dataclass(slots=True)
class Node:
    """Keys (block indexes, ascending) and values (pointers) of a node; level 1 is a leaf."""

    level: int
    keys: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Root:
    """The root: a node that is `direct` (indexes below 6 only, holes left out) or a B+tree's."""

    node: Node
    direct: bool
    user_data: int


def node_capacity(meta_block_size: int) -> int:
    """Children that fit a meta block."""
    return (meta_block_size - 8) // 16


def pack_user_data(root: bytes, user_data: int) -> bytes:
    """A root's bytes with its user data replaced."""
    return root[:4] + struct.pack("<I", user_data) + root[8:]


def decode_root(data: bytes, *, source: str, offset: int = 0) -> Root:
    """The root of a block map from its 56 bytes. Raises `FormatError`."""
    flags, level, count, user_data = _HEAD.unpack_from(data)

    def broken(rule: str) -> FormatError:
        return FormatError(rule, object=source, offset=offset)

    if not flags & _LARGE:
        pointers = _DIRECT.unpack_from(data, _KEYS_AT)
        # The crate leaves level 0 in the direct root of a file that was truncated to nothing.
        if level > 1 or count:
            raise broken(f"a direct root has level 1 and no children, not {level} and {count}")
        if not all(is_data_pointer(pointer) for pointer in pointers):
            raise broken("a direct root holds a value that is no block pointer")
        keys = [index for index, pointer in enumerate(pointers) if pointer != HOLE]
        return Root(Node(1, keys, [pointers[index] for index in keys]), True, user_data)
    if not 1 <= level <= MAX_LEVEL:
        raise broken(f"a root has level 1 to {MAX_LEVEL}, not {level}")
    if bool(flags & _LEAF) != (level == 1):
        raise broken(f"the leaf flag of a root contradicts its level {level}")
    if count > ROOT_CAPACITY or (count == 0 and level > 1):
        raise broken(f"a root of level {level} cannot have {count} children")
    node = _read_children(data, level, count, ROOT_CAPACITY)
    _check_children(node, source, offset)
    return Root(node, False, user_data)


def encode_root(root: Root) -> bytes:
    """The 56 bytes of a root. Raises `ValueError` when it holds too much."""
    node = root.node
    if root.direct:
        if node.keys and node.keys[-1] >= DIRECT_POINTERS:
            raise ValueError(f"a direct root has no slot for index {node.keys[-1]}")
        pointers = [HOLE] * DIRECT_POINTERS
        for index, pointer in zip(node.keys, node.values, strict=True):
            pointers[index] = pointer
        return _HEAD.pack(0, 1, 0, root.user_data) + _DIRECT.pack(*pointers)
    data = bytearray(ROOT_BYTES)
    _write(node, memoryview(data), ROOT_CAPACITY, _LARGE, root.user_data)
    return bytes(data)


def decode_node(
    data: bytes,
    *,
    level: int,
    first_key: int,
    limit: int,
    source: str,
    offset: int,
) -> Node:
    """A node below the root, from its meta block.

    `level` and `first_key` are what its parent says of it; all its keys are below `limit`.
    Raises `FormatError`.
    """

    def broken(rule: str) -> FormatError:
        return FormatError(rule, object=source, offset=offset)

    flags, found, _, _ = _HEAD.unpack_from(data)
    if found != level or bool(flags & _LEAF) != (level == 1):
        raise broken(f"a map node of level {level} was expected, not level {found} flags {flags}")
    node = decode_any_node(data, source=source, offset=offset)
    if node.keys[0] != first_key:
        raise broken(f"a node's first key {node.keys[0]} is not its key {first_key} in its parent")
    if node.keys[-1] >= limit:
        raise broken(f"a node's last key {node.keys[-1]} is not below the next node's {limit}")
    return node


def decode_any_node(data: bytes, *, source: str, offset: int) -> Node:
    """A node below some root, from its meta block, of whatever level. Raises `FormatError`."""

    def broken(rule: str) -> FormatError:
        return FormatError(rule, object=source, offset=offset)

    flags, level, count, _ = _HEAD.unpack_from(data)
    if not 1 <= level < MAX_LEVEL or bool(flags & _LEAF) != (level == 1):
        raise broken(f"a map node cannot have level {level} and flags {flags}")
    if not 1 <= count <= node_capacity(len(data)):
        raise broken(f"a map node of {len(data)} bytes cannot have {count} children")
    node = _read_children(data, level, count, node_capacity(len(data)))
    _check_children(node, source, offset)
    return node


def encode_node_into(node: Node, block: memoryview) -> None:
    """Write a node into a zeroed meta block. Raises `ValueError` when it does not fit."""
    _write(node, block, node_capacity(len(block)), 0, 0)


def _read_children(data: bytes, level: int, count: int, capacity: int) -> Node:
    keys = struct.unpack_from(f"<{count}Q", data, _KEYS_AT)
    values = struct.unpack_from(f"<{count}Q", data, _KEYS_AT + 8 * capacity)
    return Node(level, list(keys), list(values))


def _check_children(node: Node, source: str, offset: int) -> None:
    keys = node.keys
    if any(left >= right for left, right in pairwise(keys)):
        raise FormatError("keys of a map node do not ascend", object=source, offset=offset)
    allowed = is_data_pointer if node.level == 1 else is_place
    if not all(map(allowed, node.values)):
        rule = "a map node holds a value that is no pointer of its kind"
        raise FormatError(rule, object=source, offset=offset)


def _write(node: Node, block: memoryview, capacity: int, flags: int, user_data: int) -> None:
    count = len(node.keys)
    if count > capacity:
        raise ValueError(f"a node of {count} children does not fit {len(block)} bytes")
    leaf = _LEAF if node.level == 1 else 0
    _HEAD.pack_into(block, 0, flags | leaf, node.level, count, user_data)
    struct.pack_into(f"<{count}Q", block, _KEYS_AT, *node.keys)
    struct.pack_into(f"<{count}Q", block, _KEYS_AT + 8 * capacity, *node.values)
