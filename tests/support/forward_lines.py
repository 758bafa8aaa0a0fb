"""Reads lines of JSON that the agent made of Forward events back, by the rules of the page.

Shares no code with the package. What comes out are msgpack values in which every text is bytes:
whether it was declared str or bin is the one thing that is not kept.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import msgpack


class Pairs(list[Any]):
    """A map, with its keys in their order and as often as they came."""


@dataclass(frozen=True)
class Line:
    """What one line says."""

    time: Any
    record: Pairs
    tag: Any = None
    metadata: Pairs | None = None


def read_line(line: bytes, time_key: str = "time", tag_key: str = "") -> Line:
    """The event in a line."""
    pairs = json.loads(line, object_pairs_hook=Pairs)
    time = tag = metadata = None
    record = Pairs()
    for key, value in pairs:
        if key == time_key:
            time = value
        elif tag_key and key == tag_key:
            tag = _value(value)
        elif key == "$metadata":
            metadata = _value(value)
        elif key == "$msgpack":
            _, record = unpack(base64.b64decode(value))
        elif key == "$map":
            record = _pairs(value)
        elif key in (f"${time_key}", f"${tag_key}"):
            record.append((key[1:].encode(), _value(value)))
        else:
            record.append((_key(key), _value(value)))
    return Line(time, record, tag, metadata)


def unpack(data: bytes) -> Any:
    """A msgpack value as `read_line` gives it."""
    return msgpack.unpackb(data, raw=True, object_pairs_hook=Pairs, strict_map_key=False)


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Pairs):
        if len(value) == 1 and value[0][0] in _SPECIAL:
            return _SPECIAL[value[0][0]](value[0][1])
        return Pairs((_key(key), _value(inner)) for key, inner in value)
    if isinstance(value, list):
        return [_value(element) for element in value]
    return value


def _key(key: str) -> bytes:
    assert not key.startswith("$") or key.startswith("$$"), key
    return (key[1:] if key.startswith("$") else key).encode()


def _pairs(value: Any) -> Pairs:
    return Pairs((_value(key), _value(inner)) for key, inner in value)


def _ext(value: Any) -> Any:
    code, data = value[0], base64.b64decode(value[1])
    if code == -1:
        return msgpack.Timestamp.from_bytes(data)
    return msgpack.ExtType(code, data)


_SPECIAL: dict[str, Any] = {
    "$bytes": base64.b64decode,
    "$float": float,
    "$ext": _ext,
    "$map": _pairs,
}
