"""The configuration as a JSON Schema: for editors that complete and check TOML, and for charts.

It says what a file may look like, key by key. What values mean together, and what a variable
turns out to hold, only `load` can tell.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields

from hf_agent.config.keys import Key, inner_table, keys
from hf_agent.config.model import Config, Kind

__all__ = ["schema"]

_VARIABLE = {"type": "string", "pattern": r"\$\{"}
"""Any scalar may be written with variables, that of a number too."""
_WHOLE = {"type": "integer", "minimum": 0}
_KINDS: dict[Kind, list[dict[str, Any]]] = {
    Kind.SIZE: [
        _WHOLE,
        {
            "type": "string",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]?[bB]|[kKmMgGtT][iI][bB])?\s*$",
        },
    ],
    Kind.DURATION: [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([mM]?[sS]|[mM]|[hH]|[dD])?\s*$"},
    ],
    Kind.MODE: [{"type": "string", "pattern": "^(0o?)?[0-7]{1,4}$"}],
    Kind.COUNT: [_WHOLE, {"type": "string", "pattern": "^[0-9]{1,18}$"}],
    Kind.DIRECTORY: [{"type": "string", "minLength": 1}],
    Kind.ACCOUNT: [_WHOLE, {"type": "string", "minLength": 1}],
}


def schema() -> dict[str, Any]:
    """The schema, of draft 2020-12, as a value to be encoded."""
    known = {key.name: key for key in keys()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of hf-agent",
        **_table(Config, "", known),
    }


def _table(table: type[Struct], prefix: str, known: dict[str, Key]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required = []
    for field in fields(table):
        name = prefix + field.name
        inner = inner_table(field.type)
        if inner:
            one = _table(inner[0], f"{name}[]." if inner[1] else f"{name}.", known)
            value = {"type": "array", "items": one} if inner[1] else one
        else:
            value = _value(field.type)
        if key := known.get(name):
            value = {"description": key.plain_meaning, **value}
            if key.default is not None and not inner:
                value["default"] = _default(field.default, key.default)
        if field.required:
            required.append(field.name)
            if inner and inner[1]:
                value = {**value, "minItems": 1}
        properties[field.name] = value
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **({"required": required} if required else {}),
    }


def _value(kind: Any) -> dict[str, Any]:
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _value(get_args(kind)[0])}
    if get_origin(kind) is Annotated:
        return {"anyOf": [*_KINDS[get_args(kind)[1].extra["kind"]], _VARIABLE]}
    if get_origin(kind) is Literal:
        return {"anyOf": [{"enum": list(get_args(kind))}, _VARIABLE]}
    if kind is bool:
        return {"anyOf": [{"type": "boolean"}, {"enum": ["true", "false"]}, _VARIABLE]}
    return {"type": "string"}


def _default(value: Any, text: str) -> Any:
    """As it is written in a file, rather than in bytes and seconds."""
    if isinstance(value, tuple):
        return list(value)
    return text.strip('"') if text.startswith('"') else value
