"""The check of a torture is tried on contents that are wrong in every way that matters."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_agent.store.base import Store
from support.sent_lines import Chunk, line
from torture.check import check_streams
from torture.load import Appender, LineSender, Load
from torture.watcher import Watcher

SEED = 7


def job() -> tuple[Load, dict[str, bytes]]:
    """What one appending client and one of lines have sent, and the right contents."""
    appender = Appender(Path("/nowhere"), "A", SEED)
    appender.sent = 40
    lines = LineSender(Path("/nowhere"), SEED)
    lines.chunks = [Chunk(0, 2, acknowledged=True), Chunk(2, 2, acknowledged=False)]
    contents: dict[str, bytes] = {}
    for stream, _, data in appender.expected():
        contents[stream] = contents.get(stream, b"") + data
    contents["lines"] = line(0, 0) + line(0, 1) + line(1, 2)
    return Load([appender], [], [lines]), contents


def web(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[dict[str, bytes]], None]:
    """Change the appends of one stream."""

    def damage(contents: dict[str, bytes]) -> None:
        contents["app/web"] = b"".join(change(contents["app/web"].splitlines(keepends=True)))

    return damage


def drop_stream(contents: dict[str, bytes]) -> None:
    contents.pop("audit")


def move(contents: dict[str, bytes]) -> None:
    contents["audit"] += contents["app/web"]
    contents["app/web"] = b""


def lose_a_line(contents: dict[str, bytes]) -> None:
    contents["lines"] = line(0, 0) + line(1, 2)


DAMAGE: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "lost": (web(lambda all: all[:3] + all[4:]), "lost 1"),
    "lost at the end": (web(lambda all: all[:-1]), "lost 1"),
    "doubled": (web(lambda all: [*all[:3], all[2], *all[3:]]), "doubled 1"),
    "out of order": (web(lambda all: [all[1], all[0], *all[2:]]), "out of order"),
    "cut": (web(lambda all: [*all[:-1], all[-1][:-1]]), "within an append"),
    "half an append": (web(lambda all: [*all[:2], all[2][:5], *all[3:]]), "."),
    "changed": (web(lambda all: [all[0].replace(b"\n", b"y\n"), *all[1:]]), "not as it was sent"),
    "foreign": (web(lambda all: [*all, b"Z 00000000 \n"]), "nobody sent"),
    "a stream lost": (drop_stream, "lost"),
    "in another stream": (move, "not its own|lost"),
    "an acknowledged line lost": (lose_a_line, "acknowledged whole"),
}


def test_what_is_as_it_was_sent_passes() -> None:
    load, contents = job()
    check_streams(contents, load)


@pytest.mark.parametrize("name", DAMAGE)
def test_each_kind_of_damage_is_found(name: str) -> None:
    load, contents = job()
    damage, message = DAMAGE[name]
    damage(contents)
    with pytest.raises((AssertionError, ValueError, IndexError), match=message):
        check_streams(contents, load)


def test_what_was_never_sent_is_found() -> None:
    load, contents = job()
    load.appenders[0].sent -= 1
    with pytest.raises(AssertionError, match="never sent"):
        check_streams(contents, load)


def test_a_reader_notices_what_goes_back_or_changes() -> None:
    def refuse() -> Store:
        raise NotImplementedError

    watcher = Watcher(refuse, "", random.Random(1))
    watcher.compare("a", b"one two ")
    watcher.compare("a", b"one two three")
    watcher.compare("b", b"")
    assert (watcher.readings, watcher.grown) == (3, 2)
    with pytest.raises(AssertionError, match="was longer"):
        watcher.compare("a", b"one two ")
    with pytest.raises(AssertionError, match="has changed"):
        watcher.compare("a", b"one TWO three four")
