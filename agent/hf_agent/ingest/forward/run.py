"""Messages one behind the other that are packed alike, taken out of the buffer all at once.

To find where they end takes a few bytecodes for each, because they begin with the same bytes and
their options have the same size; all else is one call of msgspec for all of them.
"""

from __future__ import annotations

import struct
from operator import le
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, MsgspecError, Raw, Struct
from msgspec.msgpack import Decoder

from hf_agent.ingest.forward.entries import Slice, array_of
from hf_agent.ingest.forward.messages import are_chunk_ids
from hf_agent.ingest.forward.scan import BIN_WIDTH

__all__ = ["Run", "find_run", "read_run"]

_LENGTHS: Final = {
    first: struct.Struct(f">{code}").unpack_from
    for first, code in zip(BIN_WIDTH, "BHI", strict=True)
}


class Run(NamedTuple):
    """Uncompressed logs of one tag, in their order. Lists of one element for each message."""

    tag: bytes
    entries: list[bytes]
    """One behind the other, each `[time, record]`."""
    counts: list[int]
    """How many entries there are, as the messages say; 1 or more, and not more than bytes."""
    chunks: list[bytes]
    """Ids, as in `Options`; none is empty."""


class _Options(Struct, forbid_unknown_fields=True, gc=False):
    size: Annotated[int, Meta(gt=0)]
    chunk: Raw


class _Message(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    tag: Raw
    entries: bytes
    options: _Options


_messages: Final[Decoder[list[_Message]]] = Decoder(list[_Message])


def find_run(
    data: bytearray,
    start: int,
    end: int,
    *,
    head: bytes,
    options_bytes: int,
    max_messages: int,
    max_bytes: int,
) -> tuple[int, int]:
    """How many whole messages of that kind `data[start:end]` begins with, and where they end.

    `head` is what they begin with, up to the first byte of a bin; `options_bytes` stand behind it.
    """
    startswith, length_at = data.startswith, _LENGTHS[head[-1]]
    to_length = len(head)
    more = to_length + BIN_WIDTH[head[-1]] + options_bytes
    end = min(end, start + max_bytes)
    at, count = start, 0
    while count < max_messages and at + more <= end and startswith(head, at):
        stop = at + more + length_at(data, at + to_length)[0]
        if stop > end:
            break
        at = stop
        count += 1
    return count, at


def read_run(tag: bytes, messages: memoryview, count: int) -> Run | None:
    """What stands in `count` messages; None unless each is simple: logs with a size and an id."""
    try:
        decoded = _messages.decode(array_of(Slice(messages, count)))
    except (MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    entries = [message.entries for message in decoded]
    options = [message.options for message in decoded]
    counts = [each.size for each in options]
    chunks = [bytes(each.chunk) for each in options]
    if all(map(le, counts, map(len, entries))) and are_chunk_ids(chunks):
        return Run(tag, entries, counts, chunks)
    return None
