"""Turns what `tomllib` read into the structs of `model`, and finds every key that does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo, fields

from hf_agent.config.errors import Problems
from hf_agent.config.expand import expand
from hf_agent.config.keys import known_keys
from hf_agent.config.location import KeyPath, dotted
from hf_agent.config.model import Config, Kind
from hf_agent.config.units import (
    parse_account,
    parse_count,
    parse_directory,
    parse_duration,
    parse_flag,
    parse_mode,
    parse_size,
)

__all__ = ["build"]

_Table = TypeVar("_Table", bound=Struct)
_PARSERS = {
    Kind.SIZE: parse_size,
    Kind.DURATION: parse_duration,
    Kind.MODE: parse_mode,
    Kind.COUNT: parse_count,
    Kind.DIRECTORY: parse_directory,
    Kind.ACCOUNT: parse_account,
}
_PLACEHOLDERS: dict[Any, Any] = {str: "", int: 0}
_SIMILAR = 0.6
"""How alike two names must be (difflib's ratio) for one to be called the nearest."""


def build(raw: Mapping[str, Any], environment: Mapping[str, str], problems: Problems) -> Config:
    """The configuration that `raw` describes.

    What does not fit goes to `problems`; such a key then has its default, or an empty value.
    """
    return _Builder(environment, problems).table(Config, raw, ())


class _Builder:
    def __init__(self, environment: Mapping[str, str], problems: Problems) -> None:
        self._environment = environment
        self._problems = problems

    def table(self, kind: type[_Table], raw: object, path: KeyPath) -> _Table:
        if not isinstance(raw, dict):
            self._problems.add(path, f"not a table: begin one with [{dotted(path)}]")
            return self._empty_table(kind, path)
        known = {field.name: field for field in fields(kind)}
        for key in raw:
            if key not in known:
                self._unknown(key, list(known), path)
        values = {}
        for name, field in known.items():
            if name in raw:
                value = self._value(field, raw[name], (*path, name))
                if value is not NODEFAULT:
                    values[name] = value
            if name not in values and _required(field):
                if name not in raw:
                    self._missing(field, (*path, name))
                values[name] = self._empty(field, (*path, name))
        return kind(**values)

    def _value(self, field: FieldInfo, raw: object, path: KeyPath) -> Any:
        """The value of a key, or NODEFAULT where it is wrong."""
        kind = field.type
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self.table(kind, raw, path)
        if get_origin(kind) is tuple:
            (inner, _) = get_args(kind)
            if isinstance(inner, type) and issubclass(inner, Struct):
                return self._array(inner, raw, path)
            return self._list(inner, raw, path)
        return self._single(kind, raw, path)

    def _single(self, kind: Any, raw: object, path: KeyPath) -> Any:
        try:
            if isinstance(raw, str):
                raw = expand(raw, self._environment)
            return _scalar(kind, raw)
        except ValueError as error:
            self._problems.add(path, str(error))
            return NODEFAULT

    def _array(self, kind: type[Struct], raw: object, path: KeyPath) -> tuple[Struct, ...]:
        if not isinstance(raw, list):
            self._problems.add(path, f"not an array of tables: begin each with [[{dotted(path)}]]")
            return ()
        return tuple(self.table(kind, entry, (*path, index)) for index, entry in enumerate(raw))

    def _list(self, kind: Any, raw: object, path: KeyPath) -> Any:
        if not isinstance(raw, list):
            self._problems.add(path, "not a list: put the values in square brackets")
            return NODEFAULT
        values = [self._single(kind, entry, (*path, index)) for index, entry in enumerate(raw)]
        return NODEFAULT if NODEFAULT in values else tuple(values)

    def _empty_table(self, kind: type[_Table], path: KeyPath) -> _Table:
        required = [field for field in fields(kind) if _required(field)]
        for field in required:
            self._problems.silence((*path, field.name))
        return kind(**{field.name: self._empty(field, (*path, field.name)) for field in required})

    def _empty(self, field: FieldInfo, path: KeyPath) -> Any:
        kind = field.type
        if isinstance(kind, type) and issubclass(kind, Struct):
            return kind(
                **{
                    inner.name: self._empty(inner, path)
                    for inner in fields(kind)
                    if _required(inner)
                }
            )
        return () if get_origin(kind) is tuple else _PLACEHOLDERS[kind]

    def _missing(self, field: FieldInfo, path: KeyPath) -> None:
        kind = field.type
        if isinstance(kind, type) and issubclass(kind, Struct):
            for inner in fields(kind):
                if _required(inner):
                    self._missing(inner, (*path, inner.name))
        elif get_origin(kind) is tuple:
            self._problems.add(path, f"missing: add at least one [[{dotted(path)}]] table")
        else:
            self._problems.add(path, "missing: it has no default")

    def _unknown(self, key: str, siblings: list[str], path: KeyPath) -> None:
        whole = (*path, key)
        if near := difflib.get_close_matches(key, siblings, n=1, cutoff=_SIMILAR):
            advice = f"the nearest known key is {dotted((*path, near[0]))}"
        elif elsewhere := [known for known in known_keys() if known.endswith(f".{key}")]:
            advice = f"the nearest known key is {elsewhere[0]}"
        else:
            nearest = max(siblings, key=lambda known: _alike(key, known))
            others = ", ".join(siblings)
            advice = f"the nearest known key is {dotted((*path, nearest))} (here are: {others})"
        self._problems.add(whole, f"unknown key; {advice}")


def _scalar(kind: Any, raw: object) -> Any:
    if get_origin(kind) is Annotated:
        return _PARSERS[get_args(kind)[1].extra["kind"]](raw)
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if raw in choices:
            return raw
        near = difflib.get_close_matches(str(raw), choices, n=1, cutoff=_SIMILAR)
        advice = f'; did you mean "{near[0]}"?' if near else ""
        raise ValueError("not one of " + ", ".join(f'"{choice}"' for choice in choices) + advice)
    if kind is bool:
        return parse_flag(raw)
    if not isinstance(raw, str):
        raise ValueError("not a string: put it in quotes")
    if "\0" in raw:
        raise ValueError("a NUL character cannot stand here")
    return raw


def _required(field: FieldInfo) -> bool:
    return field.default is NODEFAULT and field.default_factory is NODEFAULT


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
