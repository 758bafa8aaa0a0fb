"""The decoders of protocol `append`, both sides, against whatever may arrive.

Whatever comes, nothing but the protocol's own errors may come out, memory stays within a few times
what was received, and the same messages come out however the bytes are cut.
"""

from __future__ import annotations

import os
import random
import struct
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct

from hf_agent.client.errors import ClientError
from hf_agent.client.options import ClientOptions
from hf_agent.client.session import ConnectionEnded, Session
from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.append_messages import FEATURES, MAX_ID, Hello
from hf_agent.ingest.append_protocol import (
    FrameDecoder,
    decode_agent,
    decode_client,
    decode_hello_options,
)
from hf_agent.ingest.receive_buffer import ReceiveBuffer
from support.wire import frame

ROUNDS = int(os.environ.get("HF_FUZZ_ROUNDS", "1500"))
LIMIT = 64 << 10

ids = st.integers(0, 1 << 64 - 1) | st.integers(1, 50)
names = st.text(max_size=12) | st.sampled_from(["app", "a/b"])
positions = st.none() | st.integers(-1, 1 << 63)
data = st.binary(max_size=60)
acks = st.sampled_from(["wal", "store", "disk"])
scalars = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | data
anything = st.recursive(
    scalars | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
parts = st.lists(st.tuples(names, st.integers(0, 9), positions), max_size=4).map(
    lambda found: [list(part) for part in found]
)
ends = st.dictionaries(names, st.integers(0, MAX_ID), max_size=3)
options = st.fixed_dictionaries({}, optional={"producer": names, "epoch": ids, "later": anything})
client_messages = st.one_of(
    st.tuples(st.just("hello"), st.integers(0, 2), options),
    st.tuples(st.just("append"), ids, names, data, acks, positions),
    st.tuples(st.just("batch"), ids, names, st.lists(st.integers(0, 9)), data, acks, positions),
    st.tuples(st.just("multi"), ids, parts, data, acks),
    st.tuples(st.just("resume"), ids),
    st.tuples(st.just("flush"), ids, st.none() | names),
    st.tuples(st.just("status"), ids),
)
limits = st.fixed_dictionaries(
    {
        "max_record_bytes": st.integers(1, 1 << 20),
        "max_frame_bytes": st.integers(1, 1 << 20),
        "max_batch_records": st.integers(1, 1 << 20),
        "node": names,
        "last_id": st.integers(0, 20),
        "agent_version": names,
    },
    optional={"features": st.lists(st.sampled_from(FEATURES)), "max_multi_streams": ids},
)
codes = st.sampled_from([code.value for code in ErrorCode]) | names
agent_messages = st.one_of(
    st.tuples(st.just("hello"), st.just(1), limits),
    st.tuples(st.just("ack"), st.integers(0, 20), ends),
    st.tuples(st.just("stored"), st.integers(0, 20), ends),
    st.tuples(st.just("error"), codes, names, st.none() | st.integers(0, 20), st.none() | ends),
    st.tuples(st.just("flushed"), st.integers(0, 20)),
    st.tuples(st.just("status"), st.integers(0, 20), st.dictionaries(names, anything)),
)


def plain(value: Any) -> Any:
    if isinstance(value, memoryview | Raw):
        return bytes(value)
    if isinstance(value, Struct):
        return (type(value), *(plain(getattr(value, name)) for name in value.__struct_fields__))
    return [plain(item) for item in value] if isinstance(value, list) else value


def outcome(side: str, chunks: list[bytes]) -> list[Any]:
    """Every message, then the code of the error that ended it, if one did."""
    buffer = ReceiveBuffer()
    decoder: FrameDecoder[Any]
    decoder = decode_client(LIMIT, buffer) if side == "client" else decode_agent(buffer)
    found: list[Any] = []
    try:
        for chunk in chunks:
            buffer.feed(chunk)
            while (message := decoder.next()) is not None:
                found.append(repr(plain(message)))  # a NaN equals nothing, but looks the same
                if isinstance(message, Hello):
                    found.append(plain(decode_hello_options(message)))
                decoder.consume()
    except ProtocolError as error:
        found.append(error.code)
    return found


def cut(wire: bytes, places: list[int]) -> list[bytes]:
    marks = sorted(place % (len(wire) + 1) for place in places)
    return [wire[a:b] for a, b in zip([0, *marks], [*marks, len(wire)], strict=True)]


@pytest.mark.parametrize("side", ["client", "agent"])
@settings(deadline=None, max_examples=150)
@given(st.data())
def test_the_same_messages_come_out_however_the_bytes_are_cut(
    side: str, given_data: st.DataObject
) -> None:
    messages = client_messages if side == "client" else agent_messages
    sent = given_data.draw(st.lists(messages | st.tuples(names, anything), max_size=8))
    wire = b"".join(frame(*message) for message in sent)
    places = given_data.draw(st.lists(st.integers(0, 1 << 16), max_size=12))
    assert outcome(side, cut(wire, places)) == outcome(side, [wire])


@settings(deadline=None, max_examples=200)
@given(st.lists(agent_messages, max_size=10), st.lists(st.integers(0, 1 << 16), max_size=5))
def test_a_client_survives_any_answers_with_nothing_but_its_own_errors(
    answers: list[tuple[Any, ...]], places: list[int]
) -> None:
    session = Session("p", ClientOptions())
    session.begin()
    welcome = ("hello", 1, {**WELCOME, "features": list(FEATURES)})
    wire = b"".join(frame(*message) for message in (welcome, *answers))
    try:
        session.receive(frame(*welcome))
        session.outbox.append("app", b"x", "wal")
        session.outbox.append_alone("app", b"y", "store", expect=3, multi=[])
        session.outbox.append("b", b"z", "store")
        session.flush("app")
        session.next_output()
        for chunk in cut(wire[len(frame(*welcome)) :], places):
            session.receive(chunk)
            session.next_output()
    except (ClientError, ConnectionEnded):
        session.lost()
    assert session.outbox.unacknowledged_records >= 0
    assert session.outbox.unacknowledged_bytes >= 0


WELCOME = {
    "max_record_bytes": 1000,
    "max_frame_bytes": 2000,
    "max_batch_records": 100,
    "node": "n",
    "last_id": 0,
    "agent_version": "1",
}
SEEDS = {
    "client": [
        frame("hello", 1, {"producer": "p", "epoch": 7}),
        frame("append", 1, "app", b"x" * 40, "wal", 5),
        frame("batch", 2, "app", [1] * 30, b"y" * 30, "store", None),
        frame("multi", 40, [["a", 2, 0], ["b", 3, None]], b"aabbb", "wal"),
        frame("resume", 40),
        frame("flush", 1, "app"),
    ],
    "agent": [
        frame("hello", 1, {**WELCOME, "features": list(FEATURES)}),
        frame("ack", 3, {"app": 44}),
        frame("error", "position_mismatch", "text", 4, {"app": 9}),
        frame("stored", 3, {"app": 44}),
        frame("status", 1, {"a": [1, {"b": None}]}),
    ],
}


def mutated(rng: random.Random, frames: list[bytes]) -> bytes:
    """Some frames with bytes changed, doubled, cut out, or declared lengths made huge."""
    bodies = [bytearray(rng.choice(frames)[4:]) for _ in range(rng.randint(1, 4))]
    for body in bodies:
        for _ in range(rng.randint(0, 3)):
            if not body:
                break
            at = rng.randrange(len(body))
            kind = rng.randrange(5)
            if kind == 0:
                body[at] = rng.randrange(256)
            elif kind == 1:
                body[at : at + 1] = rng.choice((b"\xdd", b"\xdf", b"\xc6", b"\xdb")) + b"\xff" * 4
            elif kind == 2:
                del body[at : at + rng.randint(1, 8)]
            elif kind == 3:
                body[at:at] = body[: rng.randint(1, 20)] * rng.randint(1, 50)
            else:
                body[at:at] = msgpack.packb(rng.getrandbits(64))
    wire = b"".join(struct.pack(">I", len(body)) + body for body in bodies)
    if rng.random() < 0.1:
        wire = wire[: rng.randrange(len(wire) + 1)] + rng.randbytes(8)
    return wire


@pytest.mark.parametrize("side", ["client", "agent"])
def test_damaged_bytes_give_protocol_errors_and_take_no_memory_that_was_not_sent(
    side: str,
) -> None:
    seed = int(os.environ.get("HF_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed: HF_SEED={seed}")
    rng = random.Random(seed)
    endings: set[object] = set()
    tracemalloc.start()
    try:
        for _ in range(ROUNDS):
            wire = mutated(rng, SEEDS[side])
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            whole = outcome(side, [wire])
            assert tracemalloc.get_traced_memory()[1] - before < (256 << 10) + 64 * len(wire)
            pieces = cut(wire, [rng.randrange(1 << 16) for _ in range(rng.randint(1, 6))])
            assert outcome(side, pieces) == whole
            endings.add(whole[-1] if whole and isinstance(whole[-1], ErrorCode) else None)
    finally:
        tracemalloc.stop()
    assert endings >= {None, ErrorCode.MALFORMED}, "mutations reach both outcomes"
