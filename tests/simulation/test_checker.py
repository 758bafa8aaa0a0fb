"""The checker sees forged losses and doublings: without that, a green run would say nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from simulation import records
from simulation.checker import Checker, Container
from simulation.kernel import Kernel
from simulation.records import Name
from simulation.scenario import run_seed
from simulation.store import Bucket
from simulation.trace import Trace

_FIRST, _SECOND = Name("a", 1), Name("a", 2)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(1, Trace())


@pytest.fixture
def checker(kernel: Kernel) -> Checker:
    checker = Checker(kernel, Bucket(kernel), "n")
    checker.clients["a"] = True
    for name in (_FIRST, _SECOND):
        checker.sends(name, ["s"], records.make(name, 100))
    return checker


def container() -> Container:
    return Container("s", 0, b"", b"")


def test_what_was_acknowledged_and_is_nowhere_is_lost(checker: Checker) -> None:
    checker.acknowledged(_FIRST)
    with pytest.raises(AssertionError, match="lost: "):
        checker.finish()


def test_what_was_acknowledged_must_be_durable_at_that_moment(
    checker: Checker, kernel: Kernel
) -> None:
    checker.durable = lambda data: False
    checker.acknowledged(_FIRST)
    assert kernel.failure is not None
    assert "not durable" in kernel.failure


def test_a_producers_append_may_not_be_stored_twice(checker: Checker) -> None:
    where = container()
    checker.stores(where, _FIRST)
    with pytest.raises(AssertionError, match="twice"):
        checker.stores(where, _FIRST)


def test_a_client_without_a_name_may_be_stored_twice_after_a_resend(checker: Checker) -> None:
    checker.clients["a"] = False
    where = container()
    for name in (_FIRST, _SECOND, _FIRST, _SECOND):
        checker.stores(where, name)


def test_the_appends_of_a_client_are_stored_in_its_order(checker: Checker) -> None:
    where = container()
    checker.stores(where, _SECOND)
    with pytest.raises(AssertionError, match="behind"):
        checker.stores(where, _FIRST)


def test_what_nobody_appended_may_not_be_there(checker: Checker) -> None:
    with pytest.raises(AssertionError, match="nobody"):
        checker.stores(container(), Name("a", 3))


def test_half_of_an_append_to_two_streams_is_none(checker: Checker) -> None:
    checker.sends(Name("a", 3), ["s", "t"], b"")
    checker.stores(container(), Name("a", 3))
    with pytest.raises(AssertionError, match="half"):
        checker.finish()


def test_a_log_file_may_not_go_before_what_it_holds_is_stored(
    checker: Checker, kernel: Kernel
) -> None:
    checker.acknowledged(_FIRST)
    checker.freed("1.wal", b"\0" * 50 + records.make(_FIRST, 100))
    assert kernel.failure is not None
    assert "freed before" in kernel.failure


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data[1:],
        lambda data: data[:60] + b"?" + data[61:],
        lambda data: data[:50] + records.make(_SECOND, 100)[50:],
    ],
)
def test_only_whole_appends_are_appends(spoil: Callable[[bytes], bytes]) -> None:
    good = records.make(_FIRST, 100)
    assert records.parse(good + good) == [_FIRST, _FIRST]
    with pytest.raises(ValueError, match=r"append"):
        records.parse(good + spoil(good))


def test_a_bucket_that_swallows_checkpoints_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    put = Bucket.put

    def swallow(
        self: Bucket, key: str, body: bytes, metadata: dict[str, str], *, etag: str | None = None
    ) -> str:
        if key.endswith("2.0"):
            return "an etag"
        return put(self, key, body, metadata, etag=etag)

    monkeypatch.setattr(Bucket, "put", swallow)
    with pytest.raises(AssertionError):
        for seed in range(1, 10):
            run_seed(seed)
    gc.collect()
