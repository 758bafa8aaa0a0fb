"""What messages become in their streams: as they came, or as lines of JSON (see `json_line`)."""

from __future__ import annotations

from typing import Final, Protocol

from hf_agent.ingest.credentials import Credentials
from hf_agent.ingest.syslog.framing import Part
from hf_agent.ingest.syslog.json_line import json_line, json_part
from hf_agent.ingest.syslog.message import Parsed

__all__ = [
    "Format",
    "FormatConfig",
    "JsonLines",
    "RawLines",
    "RawOctets",
    "largest_message",
    "make_format",
]

_BESIDE: Final = 512
"""Bytes that a record may have beside what comes from the message."""


class FormatConfig(Protocol):
    """The part of `[listen.syslog]` that says how messages are stored."""

    @property
    def format(self) -> str: ...
    @property
    def raw_framing(self) -> str: ...


class Format(Protocol):
    """Each record is at most `growth` times as long as what it is of, and `_BESIDE`."""

    growth: int
    reads_fields: bool
    """Whether `record` wants the fields."""

    def record(
        self, message: bytes, parsed: Parsed | None, received: str, sender: Credentials | None
    ) -> bytes:
        """What is stored of a message; `received` is the time, in RFC 3339.

        `sender` is given where it is to be stored and the format has room for it.
        """
        ...

    def part(self, part: Part, received: str, sender: Credentials | None) -> bytes:
        """What is stored of a part of one."""
        ...


class RawLines:
    """One line each, byte for byte; what has newlines of its own, or is a part, is escaped.

    A line that begins with a backslash is escaped: behind that backslash, `\\n` stands for a
    newline, `\\\\` for a backslash, and `\\c` at the end says that the message went on.
    """

    growth = 2
    reads_fields = False

    def record(
        self, message: bytes, parsed: Parsed | None, received: str, sender: Credentials | None
    ) -> bytes:
        """See `Format.record`."""
        if b"\n" in message or message.startswith(b"\\"):
            return b"\\" + _escaped(message) + b"\n"
        return message + b"\n"

    def part(self, part: Part, received: str, sender: Credentials | None) -> bytes:
        """See `Format.part`."""
        return b"\\" + _escaped(part.data) + (b"\\c\n" if part.more else b"\n")


class RawOctets:
    """Each with its length in front, as RFC 6587 counts octets; parts like messages."""

    growth = 1
    reads_fields = False

    def record(
        self, message: bytes, parsed: Parsed | None, received: str, sender: Credentials | None
    ) -> bytes:
        """See `Format.record`. An empty message is of no length that the RFC knows: nothing."""
        return b"%d %b" % (len(message), message) if message else b""

    def part(self, part: Part, received: str, sender: Credentials | None) -> bytes:
        """See `Format.part`."""
        return self.record(part.data, None, received, sender)


class JsonLines:
    """A line of JSON each, with the fields of the message."""

    growth = 6
    reads_fields = True

    def record(
        self, message: bytes, parsed: Parsed | None, received: str, sender: Credentials | None
    ) -> bytes:
        """See `Format.record`."""
        return json_line(message, parsed, received, sender)

    def part(self, part: Part, received: str, sender: Credentials | None) -> bytes:
        """See `Format.part`."""
        return json_part(part.data, part.number, more=part.more, received=received, sender=sender)


def make_format(config: FormatConfig) -> Format:
    """What the configuration asks for."""
    if config.format == "json":
        return JsonLines()
    return RawOctets() if config.raw_framing == "octets" else RawLines()


def largest_message(format: Format, max_record_bytes: int) -> int:
    """Bytes of the largest message of which a record is certain to be small enough."""
    return max(1, (max_record_bytes - _BESIDE) // format.growth)


def _escaped(text: bytes) -> bytes:
    return text.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
