"""Opening: from the stored inode, through commits whose writer died half-way, to the state.

A commit is the creation of a checkpoint object, then the swap of the inode. Where the second half
is missing, the checkpoint counts when it was built on the state reached so far.
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.errors import (
    ChecksumError,
    FormatError,
    NoSuchCheckpoint,
    NoSuchContainer,
)
from hf_agent.hyperfile.fingerprints import fingerprint
from hf_agent.hyperfile.inode import MAX_CHECKPOINT, Inode, decode_inode
from hf_agent.hyperfile.keys import checkpoint_key, inode_key, part_key, plain_key
from hf_agent.hyperfile.meta_config import MetaConfig, PointerFormat
from hf_agent.hyperfile.segment import (
    SEGMENT_HEADER_BYTES,
    ObjectHeader,
    decode_segment_header,
)
from hf_agent.hyperfile.stream_object import (
    STREAM_HEADER_BYTES,
    decode_stream_header,
    is_stream_header,
)
from hf_agent.store.base import ObjectInfo, Store, StoreNotFound

__all__ = [
    "FoundCheckpoint",
    "State",
    "find_checkpoint",
    "inode_at_checkpoint",
    "is_commit_of",
    "reach_state",
    "read_checkpoint",
    "read_part_header",
]


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """A checkpoint object with a good header."""

    info: ObjectInfo
    header: ObjectHeader
    inode: Inode


@dataclass(frozen=True, slots=True)
class State:
    """What a container is now."""

    key: str
    inode_bytes: bytes
    """The inode reached, 160 bytes."""
    inode: Inode
    last_number: int
    """The highest checkpoint number that is taken; the next commit uses the one after it."""
    stored: bytes
    """The inode as it is stored; not what was reached while a commit is half done."""
    etag: str
    """Of the stored inode."""
    taken_up: tuple[FoundCheckpoint, ...]
    """The commits that the stored inode does not know of yet, oldest first."""
    newest: FoundCheckpoint | None = None
    """The checkpoint that `inode` is of, where it was read."""


async def reach_state(store: Store, key: str, *, checked: bool = True) -> State:
    """Read the inode and roll forward through half-done commits; writes nothing.

    A half-done commit whose header is damaged may have been in force: with `checked` it is an
    error, without, its number is taken and no more. The inode itself is not checked.
    Raises `NoSuchContainer`, `ChecksumError`, `FormatError`, and the store's errors.
    """
    try:
        answer = await store.get(inode_key(key))
    except StoreNotFound as error:
        raise NoSuchContainer(key) from error
    inode_bytes = answer.data
    inode = decode_inode(inode_bytes, source=inode_key(key))
    last_number = inode.last_seq
    taken_up: list[FoundCheckpoint] = []
    while inode.inline is None and last_number < MAX_CHECKPOINT:
        number = last_number + 1
        taken, found = await _probe(store, key, number, inode.meta.pointer_format, checked=checked)
        if not taken:
            break
        if found is not None and is_commit_of(found, number, inode_bytes, inode.meta):
            taken_up.append(found)
            inode_bytes, inode = found.header.inode, found.inode
            number = max(number, inode.last_seq)
        last_number = number
    return State(
        key=key,
        inode_bytes=inode_bytes,
        inode=inode,
        last_number=last_number,
        stored=answer.data,
        etag=answer.info.etag,
        taken_up=tuple(taken_up),
        newest=taken_up[-1] if taken_up else None,
    )


def is_commit_of(found: FoundCheckpoint, number: int, state: bytes, meta: MetaConfig) -> bool:
    """Whether a checkpoint object is commit `number`, built on the inode `state`."""
    header, inode = found.header, found.inode
    return (
        header.checkpoint == number
        and not header.partial
        and header.base in (0, fingerprint(state))
        and inode.inline is None
        and inode.meta == meta
        and inode.last_cno == number
        and inode.last_seq >= number
    )


async def _probe(
    store: Store, key: str, number: int, pointer_format: PointerFormat, *, checked: bool
) -> tuple[bool, FoundCheckpoint | None]:
    """Whether a checkpoint number is taken, and the checkpoint when it has a good header."""
    main = checkpoint_key(key, number, pointer_format)
    names = (plain_key(key, number), part_key(key, number, 0), part_key(key, number, 1))

    async def look(name: str) -> tuple[bool, FoundCheckpoint | None]:
        try:
            if name == main:
                return True, await read_checkpoint(store, key, number, pointer_format)
            await store.head(name)
        except FormatError as error:
            if checked and isinstance(error, ChecksumError):
                raise
            return True, None
        except StoreNotFound:
            return False, None
        return True, None

    answers = await map_concurrently(look, names, limit=len(names))
    found = next((found for _, found in answers if found is not None), None)
    return any(taken for taken, _ in answers), found


async def read_checkpoint(
    store: Store, key: str, number: int, pointer_format: PointerFormat, *, checked: bool = True
) -> FoundCheckpoint:
    """Header and inode of the object that the format names as checkpoint `number`.

    Raises `FormatError` when it is none, with `checked` `ChecksumError` when its header is
    damaged, `StoreNotFound`, and the store's other errors.
    """
    name = checkpoint_key(key, number, pointer_format)
    info, header = await _read_header(store, name, number, 0, pointer_format, checked=checked)
    stream = pointer_format is PointerFormat.STREAM
    offset = info.size - STREAM_HEADER_BYTES + 40 if stream else 24
    return FoundCheckpoint(info, header, decode_inode(header.inode, source=name, offset=offset))


async def read_part_header(
    store: Store, object_key: str, number: int, part: int, pointer_format: PointerFormat
) -> ObjectHeader:
    """Header of any object of checkpoint `number`.

    Raises `FormatError` when it has none, `StoreNotFound`, and the store's other errors.
    """
    return (await _read_header(store, object_key, number, part, pointer_format, checked=True))[1]


async def _read_header(
    store: Store,
    object_key: str,
    number: int,
    part: int,
    pointer_format: PointerFormat,
    *,
    checked: bool,
) -> tuple[ObjectInfo, ObjectHeader]:
    if pointer_format is PointerFormat.STREAM:
        answer = await store.get(object_key, suffix=STREAM_HEADER_BYTES)
        header = decode_stream_header(
            answer.data,
            source=object_key,
            object_size=answer.info.size,
            checkpoint=number,
            part=part,
        )
    else:
        answer = await store.get(object_key, end=SEGMENT_HEADER_BYTES)
        header = decode_segment_header(
            answer.data, source=object_key, object_size=answer.info.size, checked=checked
        )
    return answer.info, header


async def inode_at_checkpoint(
    store: Store, key: str, number: int, *, checked: bool = True
) -> Inode:
    """The inode in checkpoint `number`, which describes the whole file at that point.

    Raises as `find_checkpoint`.
    """
    return (await find_checkpoint(store, key, number, checked=checked)).inode


async def find_checkpoint(
    store: Store, key: str, number: int, *, checked: bool = True
) -> FoundCheckpoint:
    """Checkpoint `number` of a container whatever its format; its inode describes the whole file
    at that point.

    Without `checked`, the header's checksum is not looked at. Raises `NoSuchCheckpoint`,
    `ChecksumError`, `FormatError`, and the store's errors.
    """
    if not 1 <= number <= MAX_CHECKPOINT:
        raise NoSuchCheckpoint(key, number)
    try:
        found = await read_checkpoint(store, key, number, PointerFormat.FLAT, checked=checked)
        name = plain_key(key, number)
    except StoreNotFound:
        name = part_key(key, number, 0)
        try:
            tail = await store.get(name, suffix=STREAM_HEADER_BYTES)
            pointer_format = (
                PointerFormat.STREAM if is_stream_header(tail.data) else PointerFormat.PARTED
            )
            found = await read_checkpoint(store, key, number, pointer_format, checked=checked)
        except StoreNotFound as error:
            raise NoSuchCheckpoint(key, number) from error
    if found.header.checkpoint != number or found.header.partial or found.inode.inline is not None:
        raise FormatError("the object is not the checkpoint of its number", object=name, offset=0)
    return found
