"""Judges a run: what was acknowledged against what the bucket and the log's files hold.

Nothing here asks the product. Containers are read by the checker of the format that the tests have
of their own (`support.container_check`), as they stand in the bucket, at every commit.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from simulation import records
from simulation.kernel import Kernel
from simulation.records import Name
from simulation.store import Bucket
from support.container_check import (
    Checker as FormatChecker,
)
from support.container_check import (
    Segment,
    check_own_object,
    check_trailer,
    fnv,
    parse_segment,
    with_compaction,
    without_compaction,
)

__all__ = ["Checker", "Container"]


@dataclass
class _Append:
    streams: list[str]
    data: bytes
    acked: bool = False
    copies: dict[str, int] = field(default_factory=dict)
    """How often it is stored, by stream."""


@dataclass
class Container:
    """A container as far as it was written, and what it holds."""

    stream: str
    born: int
    reached: bytes
    """The inode of the newest commit: in force from when its object is there, as readers see it."""
    stored: bytes
    """The inode as it is stored, which may be behind."""
    last: int = 0
    """The highest checkpoint number that is taken."""
    content: bytes = b""
    states: set[bytes] = field(default_factory=set)
    checkpoints: list[int] = field(default_factory=list)
    segments: dict[int, Segment] = field(default_factory=dict)
    names: list[Name] = field(default_factory=list)


class Checker:
    """Compares all along, and at the end with `finish`. `Kernel.fail` ends the run."""

    def __init__(self, kernel: Kernel, bucket: Bucket, node: str) -> None:
        self.clients: dict[str, bool] = {}
        """Whether each client is a producer, whose appends are stored once."""
        self._kernel = kernel
        self._bucket = bucket
        self._prefix = f"{node}/"
        self._appends: dict[Name, _Append] = {}
        self._containers: dict[str, Container] = {}
        self._highest: dict[tuple[str, str], int] = defaultdict(int)
        self._reads: list[tuple[str, bytes]] = []
        self.durable: Callable[[bytes], bool] = lambda data: True
        """Whether a power loss at this moment would leave these bytes in some log."""
        bucket.on_write.append(self._on_write)

    # -- what clients say ------------------------------------------------------------------

    def sends(self, name: Name, streams: list[str], data: bytes) -> None:
        """A client is about to append."""
        self._appends[name] = _Append(streams, data)
        self._kernel.trace.event(self._kernel.now, "append", *name, len(data), *streams)

    def acknowledged(self, name: Name) -> None:
        """A client was told that its append is durable: so it must be, at this moment."""
        append = self._appends[name]
        append.acked = True
        self._kernel.trace.event(self._kernel.now, "ack", *name)
        for stream in append.streams:
            if not append.copies.get(stream) and not self.durable(append.data):
                self._kernel.fail(f"acknowledged, but not durable: {name} of stream {stream}")

    def told_stored(self, name: Name) -> None:
        """A client was told that the store has its append."""
        self._kernel.trace.event(self._kernel.now, "stored", *name)
        for stream in self._appends[name].streams:
            if not self._appends[name].copies.get(stream):
                self._kernel.fail(f"told to be stored, but is not: {name} of stream {stream}")

    # -- what the log does -----------------------------------------------------------------

    def freed(self, name: str, data: bytes) -> None:
        """A log file is no longer one: all that was acknowledged in it must be in the bucket."""
        self._kernel.trace.event(self._kernel.now, "freed", name)
        for found in records.names_in(data):
            append = self._appends.get(found)
            if append is None or not append.acked:
                continue
            for stream in append.streams:
                if not append.copies.get(stream):
                    self._kernel.fail(f"log file {name} freed before {found} was stored")

    # -- what the bucket holds -------------------------------------------------------------

    def _on_write(self, key: str, body: bytes | None) -> None:
        if not key.startswith(self._prefix):
            return
        try:
            self._check_write(key, body)
        except (AssertionError, ValueError, KeyError, struct.error) as error:
            self._kernel.fail(f"container rule broken at {key}: {error!r}", error)

    def _check_write(self, key: str, body: bytes | None) -> None:
        root, _, part = key.rpartition("/")
        container = self._containers.get(root)
        assert body is not None, "nothing of a container is ever removed by an agent"
        if container is None:
            assert part == "inode", "an inode comes first"
            stream = root[len(self._prefix) :].split(".conflict-")[0]
            container = Container(stream, len(self._containers), body, body)
            self._containers[root] = container
            container.states.add(body)
            assert struct.unpack_from("<Q", body, 96)[0] == 0, "a container begins empty"
            return
        if part == "inode":
            assert without_compaction(body) in container.states, "the inode is that of a commit"
            before, after = (struct.unpack_from("<Q", i, 96)[0] for i in (container.stored, body))
            assert after >= before, "an older inode was put back"
            container.stored = body
            return
        number, _, rest = part.partition(".")
        assert rest == "0", "the agent writes no other parts"
        segment = parse_segment(int(number), body)
        assert segment is not None, "a checkpoint object is whole"
        check_own_object(segment)
        check_trailer(segment)
        container.segments[int(number)] = segment
        self._roll_forward(root, container)

    def _roll_forward(self, root: str, container: Container) -> None:
        """Take what is a commit on the newest state; other objects only take their numbers."""
        while (segment := container.segments.get(container.last + 1)) is not None:
            container.last += 1
            state = container.reached
            if segment.base in (fnv(state), fnv(with_compaction(state))):
                container.reached = segment.inode
                container.states.add(segment.inode)
                self._check_commit(root, container, segment.number)

    def _check_commit(self, root: str, container: Container, number: int) -> None:
        content = self._read(container, container.reached)
        before = container.content
        assert content.startswith(before), "a reader's prefix went away"
        container.content = content
        container.checkpoints.append(number)
        new = records.parse(content[len(before) :])
        self._kernel.trace.event(self._kernel.now, "commit", root, number, len(content))
        for name in new:
            self.stores(container, name)

    def _read(self, container: Container, inode: bytes) -> bytes:
        checker = FormatChecker.__new__(FormatChecker)
        checker.stored, checker.segments = inode, container.segments
        return checker.content(inode)

    def stores(self, container: Container, name: Name) -> None:
        """A commit brings an append into a container."""
        append = self._appends.get(name)
        assert append is not None, f"nobody appended {name}"
        stream = container.stream
        assert stream in append.streams, f"{name} was appended to {append.streams}"
        copies = append.copies.get(stream, 0)
        append.copies[stream] = copies + 1
        container.names.append(name)
        if copies:
            assert not self.clients[name.client], f"{name} is stored twice in {stream}"
            return
        highest = self._highest[stream, name.client]
        assert name.number > highest, f"{name} is stored behind {highest} in {stream}"
        self._highest[stream, name.client] = name.number

    # -- readers ---------------------------------------------------------------------------

    def read(self, root: str, content: bytes) -> None:
        """A reader of the product has read a whole container."""
        self._kernel.trace.event(self._kernel.now, "read", root, len(content))
        self._reads.append((root, content))

    # -- the end ---------------------------------------------------------------------------

    @property
    def unstored(self) -> int:
        """Acknowledged appends that the bucket does not have."""
        return sum(
            append.acked and not all(append.copies.get(stream) for stream in append.streams)
            for append in self._appends.values()
        )

    def finish(self) -> None:
        """Everything has come to rest: all that was promised must hold now."""
        for name, append in self._appends.items():
            stored = [stream for stream in append.streams if append.copies.get(stream)]
            assert not append.acked or len(stored) == len(append.streams), (
                f"lost: {name}, acknowledged, to {append.streams}, stored in {stored}"
            )
            assert len(stored) in (0, len(append.streams)), f"half of {name} is stored: {stored}"
        for root, content in self._reads:
            container = self._containers[root]
            assert container.content.startswith(content), f"a reader saw what went away: {root}"
            records.parse(content)
        self._check_objects()

    def _check_objects(self) -> None:
        """Nothing is left in the bucket but containers, and what a lost race leaves in them."""
        for key in self._bucket.objects:
            root, _, part = key.rpartition("/")
            if root in self._containers:
                container = self._containers[root]
                kept = part == "inode" or int(part[:-2]) in container.segments
                assert kept, f"leaked: {key}"
            else:
                assert key.startswith(".hf-agent-preflight/"), f"leaked: {key}"
        for container in self._containers.values():
            for number in container.segments:
                if number not in container.checkpoints:
                    self._kernel.trace.count("orphan")
