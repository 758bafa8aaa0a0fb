"""Every key of the configuration, as `model` declares them: type, default and meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo, fields

from hf_agent.config.meanings import MEANINGS
from hf_agent.config.model import Config, Kind

__all__ = ["Key", "inner_table", "keys", "known_keys"]

_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_COMPUTED = {"agent.node": "the host's name", "wal.dir": "`agent.data_dir`/wal"}
"""Defaults that no literal can show."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    `name` is dotted, with `[]` behind an array of tables; `type` is the annotation in `model`.
    `default` is TOML text, or None: the key must be given, or its default is `computed`.
    """

    name: str
    type: Any
    default: str | None
    computed: str

    @property
    def required(self) -> bool:
        """Whether the key must be given."""
        return self.default is None and not self.computed

    @property
    def meaning(self) -> str:
        """Markdown, without an end of line."""
        return MEANINGS[self.name]

    @property
    def plain_meaning(self) -> str:
        """The meaning without links, which lead nowhere outside of docs, and code marks."""
        return _LINK.sub(r"\1", self.meaning).replace("`", "")


def keys() -> Iterator[Key]:
    """All keys that hold values, table by table, in the order of `model`."""
    yield from _keys(Config, "")


def known_keys() -> list[str]:
    """Their dotted names as they stand in errors: without `[]`."""
    return [key.name.replace("[]", "") for key in keys()]


def inner_table(kind: Any) -> tuple[type[Struct], bool] | None:
    """The struct of a table, and whether there may be many of it; None for a value's type."""
    many = get_origin(kind) is tuple
    inner = get_args(kind)[0] if many else kind
    if isinstance(inner, type) and issubclass(inner, Struct):
        return inner, many
    return None


def _keys(table: type[Struct], prefix: str) -> Iterator[Key]:
    for field in fields(table):
        name = prefix + field.name
        inner = inner_table(field.type)
        if inner and name not in MEANINGS:
            yield from _keys(inner[0], f"{name}[]." if inner[1] else f"{name}.")
        else:
            yield _key(name, field)


def _key(name: str, field: FieldInfo) -> Key:
    computed = _COMPUTED.get(name, "")
    if computed or (field.default is NODEFAULT and field.default_factory is NODEFAULT):
        return Key(name, field.type, None, computed)
    return Key(name, field.type, _toml(field.type, field.default), "")


def _toml(kind: Any, value: Any) -> str:
    """A default as it would stand in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        assert not value, "no list has a default that is not empty"
        return "[]"
    if get_origin(kind) is Annotated:
        match get_args(kind)[1].extra["kind"]:
            case Kind.SIZE if value:
                return _with_unit(value, (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)))
            case Kind.DURATION if value:
                milliseconds = round(value * 1000)
                return _with_unit(
                    milliseconds, (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
                )
            case Kind.MODE:
                return f'"{value:04o}"'
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)


def _with_unit(value: int, units: tuple[tuple[str, int], ...]) -> str:
    for unit, size in units:
        if value % size == 0:
            return f'"{value // size}{unit}"'
    return str(value)
