"""Lines through a whole assembly, without sockets, and what must come out by slow, plain rules."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from hf_agent.config import Lines
from hf_agent.ingest.lines.assembly import Assembly
from hf_agent.ingest.lines.parser import Lines as Piece
from hf_agent.ingest.lines.parser import LinesParser
from hf_agent.ingest.lines.record import Append, Moment
from hf_agent.ingest.lines.settings import LinesSettings
from hf_agent.ingest.receive_buffer import ReceiveBuffer

NOW = Moment(100.0, 1_769_860_800.25)
NOW_TEXT = "2026-01-31T12:00:00.250000000Z"


class Someone(NamedTuple):
    """A peer."""

    pid: int = 42
    uid: int = 1000


class Assembled:
    """An assembly that counts what it is told."""

    def __init__(self, config: Lines, max_record_bytes: int = 1 << 20) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        self.malformed = 0
        self.max_record_bytes = max_record_bytes
        self.appends: list[Append] = []
        self.most_held = 0
        settings = LinesSettings(
            config,
            max_record_bytes=max_record_bytes,
            joined=lambda stage, why: self.ended.update([(stage, why)]),
            malformed=self._count_malformed,
        )
        self.assembly: Assembly = settings.assembly(Someone())
        self.parser = LinesParser(max_record_bytes, ReceiveBuffer(), named=False)

    def _count_malformed(self) -> None:
        self.malformed += 1

    def receive(self, data: bytes, now: Moment = NOW, piece_bytes: int = 1 << 16) -> None:
        """Some bytes arrive."""
        self.parser.buffer.feed(data)
        while (event := self.parser.next()) is not None:
            assert isinstance(event, Piece)
            lines = self.parser.shorten(event, piece_bytes)
            assert len(lines.data) <= piece_bytes or lines.records == 1
            self._take(self.assembly.feed(bytes(lines.data), now))
            self.parser.consume()

    def end(self, now: Moment = NOW) -> bytes:
        """No more arrives; everything that was stored."""
        rest = self.parser.rest()
        if rest is not None:
            self._take(self.assembly.feed(bytes(rest.data), now))
            self.parser.consume()
        self._take(self.assembly.flush("end", now))
        assert self.assembly.held == 0
        assert self.assembly.deadline is None
        return self.stored

    def expire(self, now: Moment) -> None:
        """Time has passed."""
        self._take(self.assembly.expire(now))

    @property
    def stored(self) -> bytes:
        return b"".join(append.data for append in self.appends)

    @property
    def records(self) -> int:
        return sum(append.records for append in self.appends)

    def _take(self, appends: Iterator[Append]) -> None:
        for append in appends:
            assert 0 < len(append.data) <= self.max_record_bytes
            assert append.records > 0
            self.appends.append(append)
        self.most_held = max(self.most_held, self.assembly.held)


def assembled(
    chunks: Iterable[bytes],
    config: Lines,
    *,
    max_record_bytes: int = 1 << 20,
    piece_bytes: int = 1 << 16,
) -> Assembled:
    """All of `chunks`, to the end."""
    made = Assembled(config, max_record_bytes)
    for chunk in chunks:
        made.receive(chunk, piece_bytes=piece_bytes)
    made.end()
    return made


def cut(text: bytes, places: Iterable[int]) -> list[bytes]:
    """`text` cut at `places`, wherever they are."""
    cuts = sorted(min(place, len(text)) for place in places)
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def split_lines(text: bytes) -> list[bytes]:
    """Lines with their newlines; the last may have none."""
    return re.findall(rb"[^\n]*\n|[^\n]+\Z", text)


def message_of(line: dict[str, Any], key: str = "message") -> bytes:
    """The bytes that a line of JSON says, read back."""
    value = line[key]
    return b64decode(value["$bytes"]) if isinstance(value, dict) else str(value).encode()


def objects(stored: bytes) -> list[dict[str, Any]]:
    """Every line of JSON in `stored`."""
    assert stored == b"" or stored.endswith(b"\n")
    return [json.loads(line) for line in stored.split(b"\n")[:-1]]


def groups_by_rule(text: bytes, start: str, max_lines: int, max_bytes: int) -> list[bytes]:
    """Lines joined by the start pattern, one by one."""
    groups: list[list[bytes]] = []
    for line in split_lines(text):
        is_start = re.match(start.encode(), line.removesuffix(b"\n")) is not None
        open_one = groups[-1] if groups else []
        full = len(open_one) + 1 > max_lines or len(b"".join(open_one)) + len(line) > max_bytes
        if is_start or full or not groups:
            groups.append([line])
        else:
            open_one.append(line)
    return [b"".join(group) for group in groups]


CRI = re.compile(rb"([0-9A-Za-z:.+-]{1,64}) (stdout|stderr) ([PF]) ([^\n]*)\n?")


def cri_content(stored: bytes) -> tuple[dict[bytes, bytes], list[bytes]]:
    """Of raw CRI lines: all that each stream says, F as a newline; and the lines that are none."""
    says = {b"stdout": b"", b"stderr": b""}
    others = []
    for line in split_lines(stored):
        match = CRI.fullmatch(line)
        if match is None:
            others.append(line)
        else:
            says[match[2]] += match[4] + (b"\n" if match[3] == b"F" else b"")
    return says, others
