"""Which stream a message goes to: a name, or one made of its fields."""

from __future__ import annotations

import re
from typing import Final

from hf_agent.ingest.stream_name import is_stream_name
from hf_agent.ingest.syslog.message import Parsed, Unparsed
from hf_agent.ingest.syslog.names import FACILITIES, SEVERITIES

__all__ = ["SyslogTemplate"]

_FIELDS: Final = ("app_name", "facility", "hostname", "severity")
_PLACE: Final = re.compile(r"\{(" + "|".join(_FIELDS) + r")\}")


class SyslogTemplate:
    """A template with `{app_name}`, `{facility}`, `{hostname}` and `{severity}`."""

    def __init__(self, text: str) -> None:
        """Raises `ValueError` with what is wrong."""
        constants = _PLACE.sub("x", text)
        if "{" in constants or "}" in constants:
            raise ValueError(
                "not a template for a stream's name: between braces there is app_name, facility, "
                "hostname or severity"
            )
        if not is_stream_name(constants):
            raise ValueError(
                'not a stream\'s name: use letters, digits and . _ - /, without empty, "." or ".." '
                "segments"
            )
        self._text = text
        self.is_constant = constants == text

    def stream(self, parsed: Parsed | None) -> str | None:
        """The stream; None when the message lacks a field, or what results is no name."""
        if self.is_constant:
            return self._text
        if parsed is None:
            return None
        try:
            name = _PLACE.sub(lambda place: _field(place[1], parsed), self._text)
        except LookupError:
            return None
        return name if is_stream_name(name) else None


def _field(name: str, parsed: Parsed) -> str:
    if name == "facility":
        return FACILITIES[parsed.priority >> 3]
    if name == "severity":
        return SEVERITIES[parsed.priority & 7]
    value = None if isinstance(parsed, Unparsed) else getattr(parsed, name)
    if not value or b"/" in value:
        # A slash would let a program choose the folder that its stream is in.
        raise LookupError(name)
    # What is not ASCII is no stream's name in any case.
    text: str = value.decode("ascii", "replace")
    return text
