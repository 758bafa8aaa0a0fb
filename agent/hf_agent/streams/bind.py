"""The bind record: where a stream's positions lie in a container.

It is logged in the WAL before the agent first writes to a container, and says: position
`position` of this stream is offset `offset` of container `key`, whose inode then had fingerprint
`fingerprint`. After a restart it decides, together with the checkpoint trailer, what the store
already has. Encoded as a msgpack map; fields that a newer agent added are ignored.
"""

from __future__ import annotations

import msgspec

__all__ = ["Bind", "decode_bind", "encode_bind"]


class Bind(msgspec.Struct, frozen=True, omit_defaults=True):
    """One bind record. Positions and offsets are bytes."""

    root: str
    """URL of the store that the key is below."""
    key: str
    """Key of the container that is written to."""
    origin: str
    """Key that the configuration gave; differs from `key` after a conflict."""
    position: int
    offset: int
    fingerprint: int
    """Of the container's stored inode when the bind was made, or of the one about to be created."""
    version: int = 1

    @property
    def diverted(self) -> bool:
        """Whether a conflict sent the stream to a sibling of its configured key."""
        return self.key != self.origin


_decoder = msgspec.msgpack.Decoder(Bind)


def encode_bind(bind: Bind) -> bytes:
    """The bytes of a bind as they stand in the WAL."""
    return msgspec.msgpack.encode(bind)


def decode_bind(data: bytes) -> Bind:
    """The bind in `data`. Raises ValueError when it is none, or of a later version."""
    try:
        bind = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a bind record: {error}") from error
    if bind.version != 1:
        raise ValueError(f"bind record of an unknown version version={bind.version}")
    return bind
