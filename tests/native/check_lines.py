"""Compare ways to make lines of entries, for any number of seeds.

    python tests/native/check_lines.py SEEDS [FIRST [MODULE]]

MODULE: a compiled `hf_agent._native` to be loaded in the place of the installed one, such as one
with sanitizers in it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).parents[1]))


class Fast(Protocol):
    """One way to format many entries at a time."""

    def of(
        self, messages: Sequence[memoryview], counts: Sequence[int], tag: bytes
    ) -> bytes | None: ...


def check(make: Callable[[str, str], Fast], seed: int) -> bool:
    """Whether lines of a seed's entries were made; that they are right is asserted."""
    from fuzz.mutation import mutated
    from support.entry_bytes import plain_entry, slow_lines, strange_value

    rng = random.Random(seed)
    time_key, tag_key = rng.choice((("time", ""), ("", ""), ("@t", "tag"), ("", "tag"), ('"', "")))
    tag = rng.choice((b"app.web", "ä".encode(), b"\xff\xfe", b""))
    keys = rng.sample(["log", "stream", "level", "pod", "time", "x" * 40, 'q"', "é", ""], 4)
    messages = []
    for _ in range(rng.choice((1, 1, 2, 5))):
        entries = []
        for _ in range(rng.choice((0, 1, 3, 20))):
            if rng.random() < 0.2:
                keys = rng.sample(keys, 3)
            entries.append(plain_entry(rng, keys[: rng.randrange(5)]))
        messages.append(entries)
    damage = rng.randrange(4)
    streams = [b"".join(entries) for entries in messages]
    counts = [len(entries) for entries in messages]
    if damage == 1:
        at = rng.randrange(len(streams))
        streams[at] += b"\x92\x01\x81\xa1k" + strange_value(rng)
        counts[at] += 1
    elif damage == 2:
        at = rng.randrange(len(streams))
        streams[at] = mutated(rng, [streams[at] or b"\x92"])
    elif damage == 3:
        counts[rng.randrange(len(counts))] += rng.choice((-1, 1, 1000))
        counts = [max(count, 0) for count in counts]
    # Other buffers have a zero behind their end: to read that would not be seen.
    exact = [
        memoryview((ctypes.c_ubyte * len(entries)).from_buffer_copy(entries)).cast("B")
        for entries in streams
    ]
    text = make(time_key, tag_key).of(exact, counts, tag)
    if text is None:
        return False
    slow = [
        slow_lines(time_key, tag_key, entries, count, tag)
        for entries, count in zip(streams, counts, strict=True)
    ]
    assert None not in slow, f"seed {seed}: entries that are refused were formatted"
    assert text == b"".join(filter(None, slow)), f"seed {seed}: other lines than one by one"
    return True


def _load(path: str) -> None:
    spec = importlib.util.spec_from_file_location("hf_agent._native", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["hf_agent._native"] = module


def main() -> None:
    """Print how many seeds gave lines."""
    seeds, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if len(sys.argv) > 3:
        _load(sys.argv[3])
    from hf_agent.ingest.forward.native_lines import NativeLines

    made = sum(check(NativeLines, seed) for seed in range(first, first + seeds))
    sys.stdout.write(f"seeds={seeds} first={first} with_lines={made}\n")


if __name__ == "__main__":
    main()
