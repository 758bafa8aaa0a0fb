"""Raw messages can be read back from their stream, whatever they hold: by the rules of the page."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.ingest.syslog.formats import RawLines, RawOctets
from hf_agent.ingest.syslog.framing import Part

MESSAGES = st.lists(
    st.binary(min_size=1, max_size=30)
    | st.text("\\\nnc<1> ", min_size=1, max_size=12).map(str.encode),
    min_size=1,
    max_size=10,
)


def read_lines(content: bytes) -> list[tuple[bytes, bool]]:
    """Each message or part, and whether more of it follows."""
    assert content.endswith(b"\n")
    return [_read_line(line) for line in content.split(b"\n")[:-1]]


def _read_line(line: bytes) -> tuple[bytes, bool]:
    if not line.startswith(b"\\"):
        return line, False
    more = re.search(rb"(?<!\\)(\\\\)*\\c$", line[1:]) is not None
    escaped = line[1:-2] if more else line[1:]
    names = {b"\\n": b"\n", b"\\\\": b"\\"}
    return re.sub(rb"\\.", lambda found: names[found[0]], escaped, flags=re.S), more


def read_octets(content: bytes) -> list[bytes]:
    messages = []
    while content:
        length, _, rest = content.partition(b" ")
        messages.append(rest[: int(length)])
        content = rest[int(length) :]
    return messages


@settings(max_examples=300, deadline=None)
@given(MESSAGES, st.lists(st.booleans(), min_size=10, max_size=10))
def test_lines_say_every_message_and_what_is_a_part(
    messages: list[bytes], goes_on: list[bool]
) -> None:
    written = [RawLines().record(message, None, "", None) for message in messages]
    assert read_lines(b"".join(written)) == [(message, False) for message in messages]
    parts = list(zip(messages, goes_on, strict=False))
    written = [
        RawLines().part(Part(data, number, more), "", None)
        for number, (data, more) in enumerate(parts, 1)
    ]
    assert read_lines(b"".join(written)) == parts


@given(MESSAGES)
def test_octets_say_every_message(messages: list[bytes]) -> None:
    written = [RawOctets().record(message, None, "", None) for message in messages]
    assert read_octets(b"".join(written)) == messages


def test_a_message_of_one_line_is_stored_as_it_is() -> None:
    assert RawLines().record(b"<13>a \\n b", None, "", None) == b"<13>a \\n b\n"
