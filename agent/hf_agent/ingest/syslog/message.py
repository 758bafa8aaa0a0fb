"""What a syslog message says: RFC 5424, or RFC 3164 and what local programs make of it.

Nothing is guessed that cannot be undone: the fields of a message, put together again, are the
message. What fits neither format is told by None or by `Unparsed`, and kept whole by others.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

from hf_agent.ingest.syslog.names import MAX_PRIORITY
from hf_agent.ingest.syslog.structured_data import (
    STRUCTURED_DATA,
    Element,
    parse_structured_data,
)

__all__ = ["BOM", "Parsed", "Rfc3164", "Rfc5424", "Unparsed", "parse_message"]

BOM: Final = b"\xef\xbb\xbf"


class Rfc5424(NamedTuple):
    """Fields that are None were `-`; a `message` that is None was not there at all."""

    priority: int
    timestamp: bytes | None
    hostname: bytes | None
    app_name: bytes | None
    procid: bytes | None
    msgid: bytes | None
    structured_data: list[Element]
    message: bytes | None


class Rfc3164(NamedTuple):
    """Fields that are None were not there: a program on the same machine names no host."""

    priority: int
    timestamp: bytes | None
    hostname: bytes | None
    app_name: bytes | None
    procid: bytes | None
    message: bytes | None


class Unparsed(NamedTuple):
    """It has a priority, and claims to be of RFC 5424, which it is not."""

    priority: int


Parsed: TypeAlias = Rfc5424 | Rfc3164 | Unparsed

_PRIORITY: Final = re.compile(rb"<(0|[1-9][0-9]{0,2})>(1 )?")
_DATE: Final = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
_TIMESTAMP: Final = _DATE + rb"(?:Z|[+-][0-9]{2}:[0-9]{2})"
_WORD: Final = rb"[!-~]{1,255}"
_RFC5424: Final = re.compile(
    rb"(?:-|("
    + _TIMESTAMP
    + rb")) ("
    + _WORD
    + rb") ("
    + _WORD
    + rb") ("
    + _WORD
    + rb") ("
    + _WORD
    + rb") (?:-|("
    + STRUCTURED_DATA
    + rb"))(?: (.*))?",
    re.DOTALL,
)
_TAG: Final = rb"([^\s:\[\]\x00-\x1f]{1,255})(?:\[([^\s\[\]\x00-\x1f]{1,128})\])?:(?= |\Z)"
_TIME: Final = (
    rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (?: [1-9]|[0-3][0-9]) "
    rb"[0-9]{2}:[0-9]{2}:[0-9]{2}|" + _TIMESTAMP
)
_HOST: Final = rb"[!-~]{0,254}[!-9;-~]"
"""A word that ends in a colon is a tag, so there is no host in front of it."""
_RFC3164: Final = re.compile(
    rb"(?:(" + _TIME + rb") (?:(" + _HOST + rb") (?=" + _TAG + rb"))?)?(?:" + _TAG + rb"( )?)?(.*)",
    re.DOTALL,
)


def parse_message(message: bytes) -> Parsed | None:
    """The fields; None for what has no priority, which no syslog message lacks."""
    head = _PRIORITY.match(message)
    if head is None or (priority := int(head[1])) > MAX_PRIORITY:
        return None
    if head[2] is None:
        return _rfc3164(message, priority, head.end())
    found = _RFC5424.fullmatch(message, head.end())
    if found is None:
        return Unparsed(priority)
    timestamp, hostname, app_name, procid, msgid, data, text = found.groups()
    elements = parse_structured_data(data) if data is not None else []
    if elements is None:
        return Unparsed(priority)
    return Rfc5424(
        priority,
        timestamp,
        _or_none(hostname),
        _or_none(app_name),
        _or_none(procid),
        _or_none(msgid),
        elements,
        text,
    )


def _or_none(word: bytes) -> bytes | None:
    return None if word == b"-" else word


def _rfc3164(message: bytes, priority: int, at: int) -> Rfc3164:
    found = _RFC3164.fullmatch(message, at)
    assert found is not None, "everything matches"
    timestamp, hostname, _, _, app_name, procid, space, text = found.groups()
    return Rfc3164(
        priority,
        timestamp,
        hostname,
        app_name,
        procid,
        None if app_name is not None and space is None else text,
    )
