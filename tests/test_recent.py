"""What is remembered of flushes and of the log: the last ones, a bounded number, nothing secret."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from hf_agent import logs
from hf_agent.recent import (
    LAST_EVENTS,
    LAST_FLUSHES,
    FlushDone,
    RecentEvents,
    RecentFlushes,
)


@pytest.fixture
def events() -> Iterator[RecentEvents]:
    events = RecentEvents(lambda: 12.5)
    logs.setup("error", "json", stream=io.StringIO())
    logs.remember(events)
    yield events
    logs.setup("warning", "auto")
    structlog.reset_defaults()


def test_the_last_flushes_are_remembered_and_all_of_them_summed() -> None:
    flushes = RecentFlushes()
    for number in range(LAST_FLUSHES + 7):
        flushes.add(FlushDone(float(number), "app", 10, 0.5, "n/app", number))
    last = flushes.newest_first()
    assert len(last) == LAST_FLUSHES
    assert last[0]["checkpoint"] == LAST_FLUSHES + 6
    assert last[-1]["checkpoint"] == 7
    assert flushes.bytes == 10 * (LAST_FLUSHES + 7)
    assert json.loads(json.dumps(last)) == last


def test_warnings_are_remembered_also_where_the_log_is_too_quiet_for_them(
    events: RecentEvents,
) -> None:
    log = structlog.get_logger("test")
    log.info("nothing much")
    log.warning("flush failed", stream="app", result="retry")
    log.error("WAL full", reason="no space")
    assert events.newest_first() == [
        {
            "timestamp": 12.5,
            "level": "error",
            "message": "WAL full",
            "fields": {"reason": "no space"},
        },
        {
            "timestamp": 12.5,
            "level": "warning",
            "message": "flush failed",
            "fields": {"stream": "app", "result": "retry"},
        },
    ]


def test_a_log_of_many_warnings_keeps_the_last_ones(events: RecentEvents) -> None:
    log = structlog.get_logger("test")
    for number in range(LAST_EVENTS + 5):
        log.warning("again", times=number)
    last = events.newest_first()
    assert [each["fields"]["times"] for each in last[:2]] == [
        str(LAST_EVENTS + 4),
        str(LAST_EVENTS + 3),
    ]
    assert len(last) == LAST_EVENTS


def test_only_known_fields_are_remembered_and_long_texts_are_cut(events: RecentEvents) -> None:
    structlog.get_logger("test").warning(
        "odd", reason="x" * 10_000, shared_key="secret", exc_info=True
    )
    (event,) = events.newest_first()
    assert set(event["fields"]) == {"reason"}
    assert event["fields"]["reason"] == "x" * 500 + "…"
