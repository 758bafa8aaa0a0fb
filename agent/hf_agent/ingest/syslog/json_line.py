"""A syslog message as a line of JSON, from which it can be put together again."""

from __future__ import annotations

from typing import Any, Final

from msgspec.json import Encoder

from hf_agent.ingest.credentials import Credentials
from hf_agent.ingest.forward.values import text_or_bytes
from hf_agent.ingest.syslog.message import BOM, Parsed, Rfc3164, Unparsed
from hf_agent.ingest.syslog.names import FACILITIES, SEVERITIES
from hf_agent.ingest.syslog.structured_data import Element

__all__ = ["json_line", "json_part"]

_encode: Final = Encoder().encode


def json_line(
    message: bytes, parsed: Parsed | None, received: str, sender: Credentials | None = None
) -> bytes:
    """The line, with its newline; `received` is when the agent read the message, RFC 3339.

    It says who sent it, if that is given.
    """
    line = _head(received, sender)
    if parsed is not None:
        line["facility"] = FACILITIES[parsed.priority >> 3]
        line["severity"] = SEVERITIES[parsed.priority & 7]
    if parsed is None or isinstance(parsed, Unparsed):
        line["unparsed"] = True
        line["raw"] = text_or_bytes(message)
        return _encode(line) + b"\n"
    text = parsed.message
    if isinstance(parsed, Rfc3164):
        line["rfc"] = 3164
        for name in ("timestamp", "hostname", "app_name", "procid"):
            value = getattr(parsed, name)
            if value is not None:
                line[name] = text_or_bytes(value)
    else:
        line["rfc"] = 5424
        for name in ("timestamp", "hostname", "app_name", "procid", "msgid"):
            value = getattr(parsed, name)
            line[name] = None if value is None else value.decode("ascii")
        line["structured_data"] = _structured_data(parsed.structured_data)
        if text is not None and text.startswith(BOM):
            line["bom"] = True
            text = text[len(BOM) :]
    if text is not None:
        line["message"] = text_or_bytes(text)
    return _encode(line) + b"\n"


def json_part(
    data: bytes, number: int, *, more: bool, received: str, sender: Credentials | None = None
) -> bytes:
    """The line of a part of a message."""
    line = _head(received, sender)
    line |= {"part": number, "more": more, "raw": text_or_bytes(data)}
    return _encode(line) + b"\n"


def _head(received: str, sender: Credentials | None) -> dict[str, Any]:
    if sender is None:
        return {"received": received}
    return {"received": received, "pid": sender.pid, "uid": sender.uid}


def _structured_data(elements: list[Element]) -> dict[str, dict[str, Any]]:
    return {name.decode("ascii"): _parameters(parameters) for name, parameters in elements}


def _parameters(parameters: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in parameters:
        name, text = key.decode("ascii"), text_or_bytes(value)
        if name not in values:
            values[name] = text
        elif isinstance(values[name], list):
            values[name].append(text)
        else:
            values[name] = [values[name], text]
    return values
