"""`tail`: which lines are the last ones, and following."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hf_agent.cli.commands import tail
from hf_agent.cli.commands.tail import start_of_last_lines


class Content:
    """As much of a reader as finding lines needs."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    async def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


def expected(data: bytes, lines: int) -> bytes:
    parts = data.splitlines(keepends=True)
    return b"".join(parts[max(0, len(parts) - lines) :]) if lines else b""


async def last(data: bytes, lines: int) -> bytes:
    return data[await start_of_last_lines(Content(data), lines) :]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "lines", "wanted"),
    [
        (b"", 10, b""),
        (b"\n", 1, b"\n"),
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\nc", 0, b""),
        (b"a\nb\n", 9, b"a\nb\n"),
        (b"a\n\n\n", 2, b"\n\n"),
        (b"no newline", 1, b"no newline"),
    ],
)
async def test_the_last_lines(data: bytes, lines: int, wanted: bytes) -> None:
    assert await last(data, lines) == wanted


async def test_lines_across_the_steps_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_STEP", 7)
    rng = random.Random(5)
    for _ in range(300):
        data = bytes(rng.choices(b"ab\n", weights=(5, 5, 3), k=rng.randrange(60)))
        lines = rng.randrange(12)
        assert await last(data, lines) == expected(data, lines), (data, lines)


async def test_what_follows_is_copied_once_also_when_a_read_fails(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    class Failing:
        size = 6
        broken = True

        async def chunks(self, start: int) -> object:
            yield b"abcdef"[start : start + 2]
            if self.broken:
                self.broken = False
                raise OSError("the store is away")
            yield b"abcdef"[start + 2 :]

    reader = Failing()
    output = tail._Output(reader, 0)  # type: ignore[arg-type]
    copy: Callable[[], object] = output.copy
    with pytest.raises(OSError, match="away"):
        await copy()  # type: ignore[misc]
    await copy()  # type: ignore[misc]
    assert capfdbinary.readouterr().out == b"abcdef"
    assert output.position == 6
