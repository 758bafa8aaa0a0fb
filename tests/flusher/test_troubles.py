"""What is logged while streams cannot be flushed: each cause once, and once that it is over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from hf_agent.flusher.troubles import Troubles, message_of
from hf_agent.hyperfile import ConflictError, ReadOnlyLayout
from hf_agent.metrics import Metrics
from hf_agent.store.base import StoreError, StoreRefused, StoreRetry
from hf_agent.store.observer import coded


class Bench:
    def __init__(self, logs: list[Any]) -> None:
        self.logs = logs
        self.metrics = Metrics()
        self.troubles = Troubles(self.metrics)
        self._tries = 0

    def fails(self, stream: str, result: str, error: BaseException) -> None:
        self.troubles.failed(stream, result, error)

    def away(self, stream: str, code: str = "SlowDown") -> None:
        """The store does not answer; each try has a request id of its own."""
        self._tries += 1
        text = f"get failed: slow down key={stream}/inode request_id=R{self._tries}"
        self.fails(stream, "retry", coded(StoreRetry(text), code))

    def refuses(self, stream: str, code: str = "AccessDenied") -> None:
        self.fails(stream, "refused", coded(StoreRefused(f"no key={stream}"), code))

    def well(self, stream: str) -> None:
        self.troubles.succeeded(stream, f"n/{stream}")

    @property
    def told(self) -> list[tuple[str, str]]:
        """Level and stream of each line so far."""
        return [(entry["log_level"], entry["stream"]) for entry in self.logs]

    def failing(self, result: str) -> int:
        return int(self.metrics.failing_streams.labels(result)._value.get())


@pytest.fixture
def bench() -> Iterator[Bench]:
    with structlog.testing.capture_logs() as logs:
        yield Bench(logs)


def test_a_cause_is_told_once_however_often_it_is_tried(bench: Bench) -> None:
    for _ in range(50):
        bench.away("a")
    assert bench.told == [("warning", "a")]
    bench.well("a")
    bench.well("a")
    assert bench.told == [("warning", "a"), ("info", "a")]
    assert bench.logs[1]["event"] == "flushing again"
    bench.away("a")
    assert len(bench.told) == 3, "a new beginning is told again"


def test_a_store_that_is_away_is_one_cause_for_all_streams(bench: Bench) -> None:
    for stream in "abcde":
        bench.away(stream)
    assert bench.told == [("warning", "a")]
    assert bench.failing("retry") == 5
    for stream in "abcd":
        bench.well(stream)
    assert len(bench.told) == 1, "one of them still waits"
    bench.well("e")
    assert bench.told[1:] == [("info", "e")]
    assert bench.failing("retry") == 0


def test_another_code_is_another_cause(bench: Bench) -> None:
    bench.away("a", "SlowDown")
    bench.away("a", "ExpiredToken")
    bench.away("a", "ExpiredToken")
    assert bench.told == [("warning", "a")] * 2
    assert bench.failing("retry") == 1
    bench.well("a")
    assert bench.logs[2]["code"] == "ExpiredToken"


def test_what_needs_somebody_is_an_error_and_makes_unready_until_it_is_over(bench: Bench) -> None:
    bench.refuses("a")
    bench.refuses("b")
    bench.fails("c", "corrupt", ValueError("damaged"))
    assert bench.told == [("error", "a"), ("error", "c")]
    assert dict(bench.troubles.refused) == {"a": "no key=a", "b": "no key=b", "c": "damaged"}
    bench.away("a")
    bench.well("b")
    bench.well("c")
    assert dict(bench.troubles.refused) == {}
    assert (bench.failing("refused"), bench.failing("corrupt"), bench.failing("retry")) == (0, 0, 1)


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ("refused", ReadOnlyLayout("the container holds its content inline key=k")),
        ("conflict", ConflictError("another writer has changed the container key=k")),
    ],
)
def test_what_is_wrong_with_one_container_is_told_for_each(
    bench: Bench, result: str, error: BaseException
) -> None:
    bench.fails("a", result, error)
    bench.fails("b", result, error)
    bench.fails("b", result, error)
    assert [stream for _, stream in bench.told] == ["a", "b"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (StoreRetry("no answer; is it up? key='a b' waited=3s"), "no answer; is it up?"),
        (StoreRetry("x = y is no pair"), "x = y is no pair"),
        (StoreRetry("bucket=b"), "bucket=b"),
        (StoreError(), "StoreError"),
    ],
)
def test_the_pairs_at_the_end_of_a_message_do_not_make_it_another(
    error: BaseException, message: str
) -> None:
    assert message_of(error) == message


def test_causes_are_listed_by_how_many_streams_they_concern(bench: Bench) -> None:
    for stream in "abc":
        bench.away(stream)
    bench.refuses("d")
    assert bench.troubles.causes(10) == [
        {"result": "retry", "code": "SlowDown", "stream": "", "streams": 3},
        {"result": "refused", "code": "AccessDenied", "stream": "", "streams": 1},
    ]
    assert len(bench.troubles.causes(1)) == 1
    for stream in "abcd":
        bench.well(stream)
    assert bench.troubles.causes(10) == []
