"""Keys of containers, and bind records."""

from __future__ import annotations

import msgspec
import pytest

from hf_agent.streams.bind import Bind, decode_bind, encode_bind
from hf_agent.streams.key import StreamKeys, conflict_key


def test_a_bind_reads_back_as_it_was_written() -> None:
    bind = Bind("s3://bucket/logs", "n/app", "n/app", 10, 4096, 2**64 - 1)
    assert decode_bind(encode_bind(bind)) == bind
    assert not bind.diverted


def test_a_bind_to_a_sibling_knows_that_it_is_diverted() -> None:
    assert Bind("s3://b", conflict_key("n/app", "01J"), "n/app", 0, 0, 1).diverted


def test_fields_that_a_later_agent_added_are_ignored() -> None:
    fields = msgspec.to_builtins(Bind("s3://b", "k", "k", 1, 2, 3))
    assert decode_bind(msgspec.msgpack.encode({**fields, "later": True})).position == 1


def test_an_unknown_version_of_a_bind_is_refused_by_its_number() -> None:
    data = encode_bind(Bind("s3://b", "k", "k", 1, 2, 3, version=9))
    with pytest.raises(ValueError, match="version=9"):
        decode_bind(data)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x80"])
def test_bytes_that_are_no_bind_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a bind record"):
        decode_bind(data)


def test_a_key_is_the_template_with_node_and_stream_filled_in() -> None:
    keys = StreamKeys("logs/{node}/{stream}", "n{1}")
    assert keys.key("app/web") == "logs/n{1}/app/web"
    assert StreamKeys("{stream}.log", "n").key("a") == "a.log"
