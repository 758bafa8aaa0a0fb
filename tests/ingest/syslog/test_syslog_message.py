"""Fields of syslog messages, and the lines of JSON that give the messages back."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.ingest.syslog.json_line import json_line
from hf_agent.ingest.syslog.message import Rfc3164, Rfc5424, Unparsed, parse_message
from hf_agent.ingest.syslog.names import FACILITIES, SEVERITIES

NOW = "2026-01-02T03:04:05.000006Z"


def bytes_of(value: Any) -> bytes:
    return b64decode(value["$bytes"]) if isinstance(value, dict) else str(value).encode()


def put_together(line: bytes) -> bytes:
    """The message that a line of JSON was made of."""
    assert line.endswith(b"\n") and b"\n" not in line[:-1]
    row = json.loads(line)
    assert row["received"] == NOW
    if row.get("unparsed"):
        return bytes_of(row["raw"])
    priority = FACILITIES.index(row["facility"]) * 8 + SEVERITIES.index(row["severity"])
    message = b"<%d>" % priority
    if row["rfc"] == 5424:
        message += b"1"
        for name in ("timestamp", "hostname", "app_name", "procid", "msgid"):
            message += b" " + (b"-" if row[name] is None else row[name].encode())
        message += b" " + (structured(row["structured_data"]) or b"-")
        if "message" in row:
            message += b" " + b"\xef\xbb\xbf" * row.get("bom", False) + bytes_of(row["message"])
        return message
    for name in ("timestamp", "hostname"):
        if name in row:
            message += bytes_of(row[name]) + b" "
    if "app_name" in row:
        message += bytes_of(row["app_name"])
        if "procid" in row:
            message += b"[" + bytes_of(row["procid"]) + b"]"
        message += b": " if "message" in row else b":"
    return message + (bytes_of(row["message"]) if "message" in row else b"")


def structured(data: dict[str, dict[str, Any]]) -> bytes:
    text = b""
    for name, parameters in data.items():
        text += b"[" + name.encode()
        for key, value in parameters.items():
            for each in value if isinstance(value, list) else [value]:
                escaped = bytes_of(each)
                for special in (b"\\", b'"', b"]"):
                    escaped = escaped.replace(special, b"\\" + special)
                text += b" " + key.encode() + b'="' + escaped + b'"'
        text += b"]"
    return text


MESSAGES: list[tuple[bytes, Any]] = [
    (
        b"<34>1 2003-10-11T22:14:15.003Z host.example.com su - ID47 - \xef\xbb\xbf'su root' failed",
        Rfc5424(34, b"2003-10-11T22:14:15.003Z", b"host.example.com", b"su", None, b"ID47", [],
                b"\xef\xbb\xbf'su root' failed"),
    ),
    (
        b'<165>1 - - - - - [a@1 k="v" k="\\"\\]\\\\" e=""][b] x\ny',
        Rfc5424(165, None, None, None, None, None,
                [(b"a@1", [(b"k", b"v"), (b"k", b'"]\\'), (b"e", b"")]), (b"b", [])], b"x\ny"),
    ),
    (b"<0>1 - - - - - -", Rfc5424(0, None, None, None, None, None, [], None)),
    (b"<0>1 - - - - - - ", Rfc5424(0, None, None, None, None, None, [], b"")),
    (b'<0>1 - - - - - [a x="1"][a y="2"]', Unparsed(0)),
    (b"<0>1 yesterday - - - - -", Unparsed(0)),
    (b'<0>1 - - - - - [a b="c]" x', Unparsed(0)),
    (
        b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
        Rfc3164(34, b"Oct 11 22:14:15", b"mymachine", b"su", None, b"'su root' failed"),
    ),
    (
        b"<13>Nov  9 00:04:48 app[12]: text: more",
        Rfc3164(13, b"Nov  9 00:04:48", None, b"app", b"12", b"text: more"),
    ),
    (
        b"<13>2026-11-29T00:04:48.5+01:00 h app: text",
        Rfc3164(13, b"2026-11-29T00:04:48.5+01:00", b"h", b"app", None, b"text"),
    ),
    (
        b"<13>Nov  9 00:04:48 app: b: c",
        Rfc3164(13, b"Nov  9 00:04:48", None, b"app", None, b"b: c"),
    ),
    (b"<13>Nov  9 00:04:48 su:", Rfc3164(13, b"Nov  9 00:04:48", None, b"su", None, None)),
    (b"<14>app[7]: x", Rfc3164(14, None, None, b"app", b"7", b"x")),
    (b"<14>tag:without space", Rfc3164(14, None, None, None, None, b"tag:without space")),
    (b"<14>http://x", Rfc3164(14, None, None, None, None, b"http://x")),
    (b"<191>", Rfc3164(191, None, None, None, None, b"")),
    (b"<192>x", None),
    (b"<034>x", None),
    (b"<>x", None),
    (b"plain", None),
    (b"", None),
]  # fmt: skip


@pytest.mark.parametrize(("message", "fields"), MESSAGES)
def test_messages_have_these_fields_and_come_back_from_their_json(
    message: bytes, fields: Any
) -> None:
    parsed = parse_message(message)
    assert parsed == fields and type(parsed) is type(fields)
    assert put_together(json_line(message, parsed, NOW)) == message


def test_what_is_no_utf_8_is_kept_as_base64() -> None:
    message = b"<14>\xe9t\xe9: caf\xe9"
    row = json.loads(json_line(message, parse_message(message), NOW))
    assert row["app_name"] == {"$bytes": "6XTp"} and row["message"] == {"$bytes": "Y2Fm6Q=="}


def test_values_with_one_name_become_a_list() -> None:
    message = b'<14>1 - - - - - [o ip="1" ip="2" ip="3" n="4"]'
    row = json.loads(json_line(message, parse_message(message), NOW))
    assert row["structured_data"] == {"o": {"ip": ["1", "2", "3"], "n": "4"}}


WORDS = st.sampled_from(
    [b"-", b"1 ", b" ", b": ", b"[", b"]", b'"', b"=", b"app", b"host", b"Oct 11 22:14:15 ", b"\n",
     b"2003-10-11T22:14:15.003Z", b'[a b="c"]', b"\xff", b"\xef\xbb\xbf", b"\\", b"[9]: "]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([b"<13>", b"<13>1 ", b"<13>1 - h a p m ", b"<191>Oct 11 22:14:15 ", b""]),
    st.lists(st.one_of(WORDS, st.binary(max_size=8)), max_size=14).map(b"".join),
)
def test_any_message_comes_back_from_its_json(head: bytes, tail: bytes) -> None:
    message = head + tail
    parsed = parse_message(message)
    back = put_together(json_line(message, parsed, NOW))
    if isinstance(parsed, Rfc5424) and back != message:
        # A backslash that escapes nothing means the same as two, and is written as two; an
        # element's values of one name stand together. What is read is the same.
        assert parse_message(back) is not None
        assert json_line(back, parse_message(back), NOW) == json_line(message, parsed, NOW)
    else:
        assert back == message
