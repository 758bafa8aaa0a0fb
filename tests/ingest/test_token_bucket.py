"""A token bucket keeps exact accounts, however long it runs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hf_agent.ingest.token_bucket import TokenBucket

RATES = st.integers(1, 1 << 40)
GAPS = st.floats(0, 1e4, allow_nan=False)


def test_a_bucket_begins_full_and_fills_at_its_rate_up_to_its_burst() -> None:
    bucket = TokenBucket(1000, 5000, 100.0)
    assert bucket.level(100.0) == 5000
    bucket.spend(7000, 100.0)
    assert bucket.level(100.0) == -2000
    assert bucket.wait(0, 100.0) == 2.0 and bucket.wait(1000, 100.0) == 3.0
    assert bucket.level(102.0) == 0 and bucket.wait(0, 102.0) == 0.0
    assert bucket.level(1e6) == 5000
    assert bucket.level(5.0) == 5000, "a clock that steps back takes nothing away"


@given(RATES, RATES, st.lists(st.tuples(GAPS, st.integers(0, 1 << 30)), max_size=60))
def test_who_waits_out_its_debt_never_gets_more_than_burst_and_rate_and_one_piece(
    rate: int, burst: int, steps: list[tuple[float, int]]
) -> None:
    now = start = 1000.0
    bucket = TokenBucket(rate, burst, now)
    spent = 0
    for gap, nbytes in steps:
        now += gap
        now += bucket.wait(0, now)
        if bucket.wait(0, now):
            now += 2**-20  # what the sum of two floats lost
        assert bucket.wait(0, now) == 0.0
        nanoseconds = round(now * 10**9) - round(start * 10**9)
        assert spent <= burst + nanoseconds * rate / 10**9 + 1
        bucket.spend(nbytes, now)
        spent += nbytes


def test_nothing_is_rounded_away_in_a_million_small_steps() -> None:
    bucket = TokenBucket(3, 1 << 40, 0.0)
    bucket.spend(1 << 40, 0.0)
    for step in range(1_000_000):
        bucket.level(step / 1024)
    assert bucket.level(1_000_000 / 1024) == 3 * 1_000_000 // 1024
