"""Lines wrapped in JSON, without any I/O."""

from __future__ import annotations

import json

import pytest

from hf_agent.config import Lines
from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from support.assembled import NOW_TEXT, Assembled, assembled, message_of, objects

JSON = Lines(format="json")
PREFIX = f'{{"time":"{NOW_TEXT}","pid":42,"uid":1000,"message":'


def test_a_line_becomes_a_line_of_json_with_when_and_from_whom() -> None:
    made = assembled([b"one\n\ntwo\r\nlast"], JSON)
    assert made.stored.decode().splitlines() == [
        f'{PREFIX}"one"}}',
        f'{PREFIX}""}}',
        f'{PREFIX}"two\\r"}}',
        f'{PREFIX}"last"}}',
    ]
    assert made.records == 4


def test_text_that_looks_like_json_stays_text() -> None:
    lines = [b'"', b'","', b'x",', b'}\\n{"a":1}', b"\\", b"\x00\x1f\x7f", "é\u2028😀".encode()]
    made = assembled([b"".join(line + b"\n" for line in lines)], JSON)
    assert [message_of(line) for line in objects(made.stored)] == lines


def test_what_is_not_utf8_is_base64_and_its_neighbours_are_text() -> None:
    made = assembled([b"good\n\xff\xfe\nal\xc3\xa9so\n\xed\xa0\x80\n"], JSON)
    assert [json.loads(line)["message"] for line in made.stored.splitlines()] == [
        "good",
        {"$bytes": "//4="},
        "aléso",
        {"$bytes": "7aCA"},
    ]


def test_keys_are_chosen_and_empty_ones_are_not_written() -> None:
    config = Lines(format="json", time_key="@timestamp", pid_key="", uid_key="", message_key="log")
    assert assembled([b"x\n"], config).stored == (
        f'{{"@timestamp":"{NOW_TEXT}","log":"x"}}\n'.encode()
    )
    config = Lines(format="json", time_key="", pid_key="", uid_key="")
    assert assembled([b"x\ny\n"], config).stored == b'{"message":"x"}\n{"message":"y"}\n'


def test_appends_hold_whole_records_and_no_more_bytes_than_they_may() -> None:
    made = assembled([b"\n" * 3000], JSON, max_record_bytes=1000)
    assert len(made.appends) > 100  # and each was checked
    assert all(append.data.endswith(b"}\n") for append in made.appends)
    assert len(objects(made.stored)) == made.records == 3000


def test_a_line_that_becomes_too_large_is_refused_after_what_came_before_it() -> None:
    made = Assembled(JSON, 1000)
    with pytest.raises(ProtocolError) as caught:
        made.receive(b"good\n" + b"\x01" * 200 + b"\nlater\n")
    assert caught.value.code is ErrorCode.RECORD_TOO_LARGE
    assert [message_of(line) for line in objects(made.stored)] == [b"good"]
