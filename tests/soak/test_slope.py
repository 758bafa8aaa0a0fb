"""The slope test itself, with forged series."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from soak.slope import MIN_SAMPLES, Tolerance, rise

MIB = float(1 << 20)
RSS = Tolerance(8 * MIB, 0.05)
TIMES = [5.0 * number for number in range(240)]  # twenty minutes
NOISE = random.Random(3)


def series(value: Callable[[float], float]) -> list[float]:
    return [value(time) for time in TIMES]


def noise(size: float) -> float:
    return NOISE.uniform(-size, size)


def grows(values: list[float], tolerance: Tolerance = RSS) -> bool:
    return not tolerance.allows(*rise(TIMES, values))


FLAT = {
    "constant": series(lambda t: 90 * MIB),
    "noisy": series(lambda t: 90 * MIB + noise(10 * MIB)),
    "warming up": series(lambda t: 90 * MIB * (1 - math.exp(-t / 60))),
    "waves": series(lambda t: 90 * MIB + 20 * MIB * math.sin(t / 40)),
    "sawtooth": series(lambda t: 90 * MIB + (t % 100) / 100 * 30 * MIB),
    "one spike": series(lambda t: (500 if t == 1000 else 90) * MIB),
    "shrinking": series(lambda t: 120 * MIB - t / 1200 * 40 * MIB),
}
GROWING = {
    "a leak": series(lambda t: 90 * MIB + t / 1200 * 40 * MIB),
    "a noisy leak": series(lambda t: 90 * MIB + t / 1200 * 40 * MIB + noise(10 * MIB)),
    "a leak in a sawtooth": series(
        lambda t: 90 * MIB + t / 1200 * 60 * MIB + (t % 100) / 100 * 30 * MIB
    ),
    "late": series(lambda t: 90 * MIB + max(0.0, t - 600) / 600 * 30 * MIB),
    "faster and faster": series(lambda t: 90 * MIB * math.exp(t / 2000)),
}


@pytest.mark.parametrize("name", FLAT)
def test_what_is_flat_passes(name: str) -> None:
    assert not grows(FLAT[name])


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_is_found(name: str) -> None:
    assert grows(GROWING[name])


def test_one_descriptor_lost_a_minute_is_found() -> None:
    leaking = series(lambda t: 40 + t // 60 + round(noise(3)))
    assert grows(leaking, Tolerance(4))
    assert not grows(series(lambda t: 40 + round(noise(5))), Tolerance(4))


def test_too_few_samples_are_refused_not_passed() -> None:
    few = TIMES[: MIN_SAMPLES - 1]
    with pytest.raises(ValueError, match="too few samples"):
        rise(few, few)
