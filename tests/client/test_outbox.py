"""The queue of what is not acknowledged, without any I/O."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgpack
import pytest

from hf_agent.client.errors import AgentRefused, AppendRefused, PositionMismatch
from hf_agent.client.outbox import Outbox, Refused
from hf_agent.ingest.append_messages import FEATURE_EXPECT, FEATURE_MULTI, FEATURES, Part


def outbox(max_record_bytes: int = 1 << 20, **bounds: int) -> Outbox:
    box = Outbox(bounds.get("max_bytes", 1 << 30), bounds.get("max_records", 1 << 30))
    box.greeted(max_record_bytes, FEATURES, 256)
    return box


def frames(box: Outbox, most: int = 1000) -> list[list[Any]]:
    found: list[list[Any]] = []
    while len(found) < most and (pieces := box.take_frame()) is not None:
        found.append(msgpack.unpackb(b"".join(pieces)[4:]))
    return found


def test_appends_in_a_row_to_one_stream_share_a_frame() -> None:
    box = outbox()
    for stream, data in (("a", b"1"), ("a", b"23"), ("b", b"4"), ("a", b"5")):
        box.append(stream, data, "wal")
    box.append("a", b"6", "store")
    assert frames(box) == [
        ["batch", 1, "a", [1, 2], b"123", "wal"],
        ["append", 3, "b", b"4", "wal"],
        ["append", 4, "a", b"5", "wal"],
        ["append", 5, "a", b"6", "store"],
    ]
    assert frames(box) == []


def test_a_run_that_was_sent_is_closed_and_sent_again_as_it_was() -> None:
    box = outbox()
    box.append("a", b"1", "wal")
    first = frames(box)
    box.append("a", b"2", "wal")
    box.lost()
    assert frames(box) == [*first, ["append", 2, "a", b"2", "wal"]]


def test_only_closed_runs_are_taken_if_asked_for() -> None:
    box = outbox()
    box.append("a", b"1", "wal")
    box.append("b", b"2", "wal")
    assert box.take_frame(only_closed=True) is not None
    assert box.take_frame(only_closed=True) is None
    assert box.take_frame() is not None


def test_no_frame_is_over_the_agents_limit() -> None:
    box = outbox(max_record_bytes=100)
    for _ in range(30):
        box.append("a", b"x" * 40, "wal")
    assert all(sum(frame[3]) <= 100 for frame in frames(box) if frame[0] == "batch")
    with pytest.raises(AppendRefused, match="limit=100"):
        box.append("a", b"x" * 101, "wal")


def test_there_is_no_room_beyond_either_bound_but_for_one() -> None:
    box = outbox(max_bytes=10, max_records=3)
    assert box.append("a", b"x" * 50, "wal") == 1
    assert box.append("a", b"", "wal") == 0
    frames(box)
    box.acknowledged(1)
    assert [box.append("a", b"x", "wal") for _ in range(4)] == [2, 3, 4, 0]


def test_an_unknown_acknowledgement_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="later"):
        outbox().append("a", b"x", "later")


def test_a_refused_run_is_answered_and_told_once() -> None:
    box = outbox()
    for data in (b"1", b"2"):
        box.append("bad", data, "wal")
    good = box.append("good", b"3", "wal")
    frames(box)
    assert box.refused("bad_stream", 1, "no name") is Refused.ALONE
    assert box.refused("bad_stream", 77, "no name") is Refused.UNKNOWN
    assert box.is_answered(1) and box.is_answered(2) and not box.is_answered(good)
    box.acknowledged(good)
    assert box.is_done and box.unacknowledged_records == box.unacknowledged_bytes == 0
    refusal = box.next_refusal()
    assert refusal is not None and (refusal.id, refusal.last_id) == (1, 2)
    assert box.next_refusal() is None
    assert box.refusal_of(2) is refusal


def test_stored_counts_only_for_appends_of_the_same_connection() -> None:
    box = outbox()
    box.append("a", b"1", "store")
    frames(box)
    box.acknowledged(1)
    assert not box.is_answered(1)
    box.lost()
    box.append("b", b"2", "store")
    frames(box)
    box.acknowledged(2)
    box.stored(2)
    assert box.is_answered(2) and not box.is_answered(1)
    assert box.carried_streams() == {"a"}
    box.flushed("a", 2)
    assert box.is_done


def test_whatever_happens_everything_is_sent_in_order_until_it_is_acknowledged() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        box = outbox(max_record_bytes=300)
        sent: list[tuple[int, bytes]] = []
        expected: list[tuple[int, bytes]] = []
        durable = 0
        for _ in range(200):
            action = rng.random()
            if action < 0.6:
                data = rng.randbytes(rng.randint(0, 90))
                expected.append((box.append(rng.choice("ab"), data, "wal"), data))
            elif action < 0.85:
                for frame in frames(box, rng.randint(1, 50)):
                    sent += spread(frame)
            elif action < 0.95 and sent:
                durable = max(durable, rng.choice(sent)[0])
                box.acknowledged(durable)
            else:
                # What had not been acknowledged as a whole run comes again.
                box.lost()
                box.greeted(rng.choice((100, 200, 300)))
                first = box.first_unsent_id
                sent = [item for item in sent if item[0] < first]
        for frame in frames(box):
            sent += spread(frame)
        assert sent == expected, f"seed={seed}"
        assert box.unacknowledged_bytes >= 0
        box.acknowledged(box.next_id)
        assert box.is_done and box.unacknowledged_bytes == 0, f"seed={seed}"


def spread(frame: list[Any]) -> list[tuple[int, bytes]]:
    if frame[0] == "append":
        return [(frame[1], frame[3])]
    items, place = [], 0
    for id, length in enumerate(frame[3], frame[1]):
        items.append((id, frame[4][place : place + length]))
        place += length
    return items


def alone(box: Outbox, stream: str, expect: int | None, data: bytes = b"x") -> int:
    return box.append_alone(stream, data, "wal", expect=expect, multi=[])


def together(box: Outbox, *parts: Part) -> int:
    data = bytes(sum(part.length for part in parts))
    return box.append_alone("", data, "wal", expect=None, multi=list(parts))


def test_a_conditional_append_shares_no_frame() -> None:
    box = outbox()
    box.append("a", b"1", "wal")
    alone(box, "a", 1)
    alone(box, "a", 2)
    box.append("a", b"4", "wal")
    assert [frame[1] for frame in frames(box)] == [1, 2, 3, 4]
    box.lost()
    assert [frame[5:] for frame in frames(box)] == [[], [1], [2], []]


def test_behind_a_refused_conditional_append_what_may_build_on_it_is_given_up() -> None:
    box = outbox()
    assert alone(box, "a", 0) == 1
    alone(box, "a", 1)
    alone(box, "b", 1)
    box.append("a", b"free", "wal")
    together(box, Part("c", 1), Part("a", 1, 5))
    together(box, Part("c", 1), Part("a", 1))
    frames(box)
    alone(box, "a", 9)
    assert box.refused("position_mismatch", 1, "text", {"a": 7}) is Refused.HOLDS
    assert [frame[1] for frame in frames(box)] == [3, 4, 6], "the others are sent again"
    told = [box.next_refusal() for _ in range(4)]
    assert all(isinstance(refusal, PositionMismatch) for refusal in told)
    assert [(r.id, r.positions) for r in told if isinstance(r, PositionMismatch)] == [
        (1, {"a": 7}),
        (2, {}),
        (5, {}),
        (7, {}),
    ]
    box.acknowledged(6)
    assert box.is_done and box.unacknowledged_records == box.unacknowledged_bytes == 0


def unsupported_if(refused: bool) -> AbstractContextManager[object]:
    return pytest.raises(AgentRefused, match="unsupported") if refused else nullcontext()


def test_an_agent_without_the_features_is_not_sent_them() -> None:
    box = outbox()
    for features in ((), ("multi",), ("expect_position",)):
        box.greeted(100, features, 5)
        with unsupported_if(FEATURE_EXPECT not in features):
            alone(box, "a", 0)
        with unsupported_if(FEATURE_MULTI not in features):
            together(box, Part("a", 1), Part("b", 1))
        if features:
            with pytest.raises(AgentRefused, match="feature"):
                box.greeted(100, ())
        frames(box)
        box.acknowledged(1000)


def test_more_streams_than_the_agent_takes_are_a_mistake_of_the_caller() -> None:
    box = outbox()
    box.greeted(100, FEATURES, 2)
    with pytest.raises(ValueError, match="streams=3 limit=2"):
        together(box, Part("a", 1), Part("b", 1), Part("c", 1))


def test_an_append_to_several_streams_owes_word_of_each() -> None:
    box = outbox()
    box.append_alone("", b"ab", "store", expect=None, multi=[Part("a", 1), Part("b", 1)])
    frames(box)
    box.acknowledged(1)
    box.lost()
    assert box.carried_streams() == {"a", "b"}
    box.flushed("a", 1)
    assert not box.is_done and box.carried_streams() == {"b"}
    box.flushed("b", 1)
    assert box.is_done
