"""Nothing of any input is lost or made up, in any mode, however it is cut. Seeds are printed."""

from __future__ import annotations

import os
import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.config import Lines
from support.assembled import (
    assembled,
    cri_content,
    cut,
    groups_by_rule,
    message_of,
    objects,
    split_lines,
)

EXAMPLES = 150
LINES = st.lists(
    st.one_of(
        st.sampled_from((b"\n", b" at\n", b"start\n", b"\xff\n", b"s\r\n", b"\x00\n")),
        st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"") + b"\n"),
    ),
    max_size=40,
).map(b"".join)
REST = st.sampled_from((b"", b"last", b"start", b"\xfe"))
CUTS = st.lists(st.integers(0, 800), max_size=12)
START = "st|x"

CRI_LINE = st.one_of(
    st.builds(
        lambda stream, tag, log: b"2026 %b %b %b\n" % (stream, tag, log.replace(b"\n", b"")),
        st.sampled_from((b"stdout", b"stderr")),
        st.sampled_from((b"P", b"F", b"P", b"Q")),
        st.binary(max_size=20),
    ),
    st.just(b"other\n"),
)
CRI_LINES = st.lists(CRI_LINE, max_size=40).map(b"".join)


@settings(deadline=None, max_examples=EXAMPLES)
@given(LINES, REST, CUTS, st.integers(1, 100))
def test_json_says_every_line(text: bytes, rest: bytes, cuts: list[int], piece: int) -> None:
    made = assembled(cut(text + rest, cuts), Lines(format="json"), piece_bytes=piece)
    lines = split_lines(text + rest)
    assert [message_of(line) for line in objects(made.stored)] == [
        line.removesuffix(b"\n") for line in lines
    ]
    assert made.records == len(lines)


@settings(deadline=None, max_examples=EXAMPLES)
@given(LINES, REST, CUTS, st.integers(1, 6), st.integers(1, 60), st.integers(1, 100))
def test_groups_are_those_of_the_plain_rule_and_raw_is_the_input(
    text: bytes, rest: bytes, cuts: list[int], lines: int, nbytes: int, piece: int
) -> None:
    text += rest
    groups = groups_by_rule(text, START, lines, nbytes)
    options = {"start_pattern": START, "max_group_lines": lines, "max_group_bytes": nbytes}
    raw = assembled(cut(text, cuts), Lines(**options), piece_bytes=piece)  # type: ignore[arg-type]
    assert raw.stored == text
    assert raw.records == len(groups)
    # No group is cut between two appends.
    ends = {sum(map(len, groups[:count])) for count in range(len(groups) + 1)}
    place = 0
    for append in raw.appends:
        place += len(append.data)
        assert place in ends
    wrapped = assembled(cut(text, cuts), Lines(format="json", **options), piece_bytes=piece)  # type: ignore[arg-type]
    assert [message_of(line) for line in objects(wrapped.stored)] == [
        group.removesuffix(b"\n") for group in groups
    ]


@settings(deadline=None, max_examples=EXAMPLES)
@given(CRI_LINES, CUTS, st.integers(1, 6), st.integers(1, 200), st.booleans())
def test_containers_streams_say_what_they_said_and_other_lines_stay(
    text: bytes, cuts: list[int], lines: int, nbytes: int, joined: bool
) -> None:
    options = {
        "cri": True,
        "max_group_lines": lines,
        "max_group_bytes": nbytes,
        "start_pattern": "[a-z]" if joined else "",
    }
    raw = assembled(cut(text, cuts), Lines(**options))  # type: ignore[arg-type]
    says, others = cri_content(raw.stored)
    assert (says, others) == cri_content(text)
    assert raw.malformed == len(others)
    wrapped = assembled(cut(text, cuts), Lines(format="json", **options))  # type: ignore[arg-type]
    said = {"stdout": b"", "stderr": b""}
    for line in objects(wrapped.stored):
        if "stream" in line:
            said[line["stream"]] += message_of(line) + (b"" if line.get("$partial") else b"\n")
    # Where a bound cut a line inside a group, the group's newline stands behind the part.
    if not joined:
        assert said == {name.decode(): text for name, text in says.items()}
    else:
        flat = {name: re.sub(rb"\n", b"", text) for name, text in said.items()}
        assert flat == {name.decode(): text.replace(b"\n", b"") for name, text in says.items()}


def test_mutated_bytes_are_stored_whole_in_raw_modes() -> None:
    first = int(os.environ.get("HF_AGENT_FUZZ_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"HF_AGENT_FUZZ_SEED={first}")
    for seed in range(first, first + 200):
        rng = random.Random(seed)
        data = bytearray(b"start 2026\n at x\n at y\n" * 20)
        for _ in range(rng.randrange(40)):
            place = rng.randrange(len(data))
            data[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
        text = bytes(data)
        cuts = [rng.randrange(len(text)) for _ in range(rng.randrange(10))]
        config = Lines(start_pattern="start", max_group_bytes=rng.randrange(1, 200))
        assert assembled(cut(text, cuts), config).stored == text, f"seed={seed}"
