"""The client's side of the protocol against agents that misbehave, without any I/O."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.client.errors import AgentRefused, ClientError, Fenced, Superseded
from hf_agent.client.options import ClientOptions, fresh_producer
from hf_agent.client.session import ConnectionEnded, Session
from hf_agent.ingest.producers import is_producer_name
from support.wire import frame

LIMITS = {
    "max_record_bytes": 1000,
    "max_frame_bytes": 2000,
    "max_batch_records": 100,
    "node": "n",
    "last_id": 5,
    "agent_version": "1",
}
WELCOME = frame("hello", 1, LIMITS)


def session() -> Session:
    made = Session("p", ClientOptions())
    made.begin()
    return made


def test_nothing_is_sent_before_the_agent_has_greeted_and_ids_begin_above_the_last() -> None:
    client = session()
    assert not client.next_output()
    client.receive(WELCOME)
    assert client.outbox.append("app", b"x", "wal") == 6
    assert client.next_output()


def test_answers_may_come_byte_by_byte() -> None:
    client = session()
    for byte in WELCOME:
        client.receive(bytes([byte]))
    id = client.outbox.append("app", b"x", "wal")
    client.next_output()
    for byte in frame("ack", id, {"app": 1}):
        client.receive(bytes([byte]))
    assert client.is_idle


def test_a_flush_goes_out_behind_what_was_appended_before_it() -> None:
    client = session()
    client.receive(WELCOME)
    client.outbox.append("app", b"x", "wal")
    client.flush("app")
    client.outbox.append("other", b"y", "wal")
    out = b"".join(client.next_output())
    assert out.index(b"append") < out.index(b"flush") < out.rindex(b"append")


@pytest.mark.parametrize(
    "code",
    ["wal_full", "wal_failed", "shutting_down", "too_many_connections", "no_buffer_space"],
)
def test_what_may_pass_ends_the_connection_only(code: str) -> None:
    client = session()
    client.receive(WELCOME)
    with pytest.raises(ConnectionEnded, match=code):
        client.receive(frame("error", code, "text", None))


@pytest.mark.parametrize("code", ["malformed", "bad_id", "bad_version", "frame_too_large"])
def test_what_will_not_pass_ends_the_client(code: str) -> None:
    client = session()
    with pytest.raises(AgentRefused) as caught:
        client.receive(frame("error", code, "text", None))
    assert caught.value.code == code


def test_superseded_is_told_as_such() -> None:
    with pytest.raises(Superseded):
        session().receive(frame("error", "superseded", "text", None))


def test_an_unknown_error_for_an_append_refuses_it() -> None:
    client = session()
    client.receive(WELCOME)
    id = client.outbox.append("app", b"x", "wal")
    client.next_output()
    client.receive(frame("error", "new_code", "text", id))
    refusal = client.outbox.refusal_of(id)
    assert refusal is not None and refusal.code == "new_code"


def test_another_version_is_refused() -> None:
    with pytest.raises(AgentRefused, match="version=2"):
        session().receive(frame("hello", 2, LIMITS))


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_nothing_but_errors_of_the_client_comes_out_of_random_bytes(
    data: bytes, framed: bool
) -> None:
    client = session()
    try:
        client.receive(struct.pack(">I", len(data)) + data if framed else data)
    except (ClientError, ConnectionEnded):
        return


def test_fresh_producer_names_are_allowed_and_differ() -> None:
    names = {fresh_producer() for _ in range(100)}
    assert len(names) == 100
    assert all(map(is_producer_name, names))


FEATURED = frame("hello", 1, {**LIMITS, "features": ["epoch", "expect_position", "multi"]})


def test_an_epoch_is_said_and_an_agent_that_does_not_know_it_is_refused() -> None:
    client = Session("p", ClientOptions(), 3)
    assert b"\xa5epoch\x03" in client.begin()
    with pytest.raises(AgentRefused, match="feature=epoch") as caught:
        client.receive(WELCOME)
    assert caught.value.code == "unsupported"
    client = Session("p", ClientOptions(), 3)
    client.begin()
    client.receive(FEATURED)
    assert client.is_ready
    with pytest.raises(Fenced):
        client.receive(frame("error", "fenced", "text", None))


def test_without_an_epoch_hello_is_what_it_was() -> None:
    assert Session("p", ClientOptions()).begin() == frame("hello", 1, {"producer": "p"})


@pytest.mark.parametrize(("producer", "epoch"), [(None, 1), ("p", -1), ("p", 1 << 63)])
def test_an_impossible_epoch_is_a_mistake_of_the_caller(producer: str | None, epoch: int) -> None:
    with pytest.raises(ValueError, match="epoch="):
        Session(producer, ClientOptions(), epoch)


def test_after_a_refusal_that_holds_the_rest_is_sent_again_with_what_was_asked_behind_it() -> None:
    client = session()
    client.receive(FEATURED)
    before = client.flush("before")
    client.outbox.append_alone("app", b"refused", "wal", expect=1, multi=[])
    client.outbox.append("app", b"again", "wal")
    behind = client.flush("behind")
    b"".join(client.next_output())
    client.receive(frame("error", "position_mismatch", "text", 6, {"app": 9}))
    out = b"".join(client.next_output())
    assert out.startswith(frame("resume", 6))
    assert out.index(b"again") < out.index(b"behind")
    assert b"refused" not in out and b"before" not in out
    client.receive(frame("flushed", before.number) + frame("flushed", behind.number))
    client.receive(frame("ack", 7, {"app": 14}))
    assert before.done and behind.done and client.is_idle
    client.lost()
    client.begin()
    client.receive(frame("hello", 1, {**LIMITS, "last_id": 7, "features": ["expect_position"]}))
    assert not client.next_output(), "what was resumed from is over with the connection"
