"""What msgpack can say and JSON cannot, said in JSON so that it can be read back.

The rules are on `docs/forward-protocol.md`; every key that begins with one `$` is made here. What
is not kept: whether a text was declared str or bin, and the width of a number.
"""

from __future__ import annotations

import math
from base64 import b64encode
from typing import Any, Final, NamedTuple

import msgpack

__all__ = [
    "MAX_DEPTH",
    "Ext",
    "Pairs",
    "TooDeep",
    "base64",
    "json_value",
    "text_or_bytes",
    "unpack",
]

MAX_DEPTH: Final = 100
"""Levels of maps and arrays that are written as such; many parsers of JSON take not many more."""


class Pairs(list[tuple[Any, Any]]):
    """A map as it came: keys may repeat, and be of any type."""

    __slots__ = ()


class Ext(NamedTuple):
    """A value of an ext type, of whatever code: `msgpack.ExtType` refuses those below 0.

    Those are reserved for types that msgpack may define one day; what comes is kept all the same.
    """

    code: int
    data: bytes


class TooDeep(Exception):
    """A value is nested deeper than `MAX_DEPTH`."""


def unpack(data: memoryview | bytes) -> Any:
    """The one value in `data`: maps are `Pairs`, str and bin are bytes, ext is `Ext`.

    But for ext type -1, msgpack's own timestamp. Raises `ValueError` when it is not msgpack, or not
    one value.
    """
    try:
        return msgpack.unpackb(
            data, raw=True, object_pairs_hook=Pairs, strict_map_key=False, ext_hook=Ext
        )
    except (msgpack.UnpackException, TypeError, OverflowError) as error:
        raise ValueError(f"not msgpack: {error}") from error


def json_value(value: Any, depth: int = 0) -> Any:
    """`value`, as `unpack` gives it, in types that have a JSON form. Raises `TooDeep`."""
    if isinstance(value, bytes):
        return text_or_bytes(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": _float_name(value)}
    if isinstance(value, Pairs):
        return _json_map(value, depth + 1)
    if isinstance(value, list):
        if depth >= MAX_DEPTH:
            raise TooDeep
        return [json_value(element, depth + 1) for element in value]
    if isinstance(value, msgpack.Timestamp):
        return {"$ext": [-1, base64(value.to_bytes())]}
    if isinstance(value, Ext):
        return {"$ext": [value.code, base64(value.data)]}
    return value


def text_or_bytes(data: bytes) -> str | dict[str, str]:
    """A text as it is; what is not UTF-8 as base64."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"$bytes": base64(data)}


def _json_map(pairs: Pairs, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise TooDeep
    keys = [_text_key(key) for key, _ in pairs]
    texts = [key for key in keys if key is not None]
    if len(set(texts)) == len(pairs):
        return {
            f"${key}" if key.startswith("$") else key: json_value(value, depth)
            for key, (_, value) in zip(texts, pairs, strict=True)
        }
    # Twice the same key, or one that is no text.
    return {"$map": [[json_value(key, depth), json_value(value, depth)] for key, value in pairs]}


def _text_key(key: Any) -> str | None:
    if not isinstance(key, bytes):
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _float_name(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def base64(data: bytes) -> str:
    """Base64 with padding, in one line."""
    return b64encode(data).decode()
