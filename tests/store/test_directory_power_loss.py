"""Two writers meet on one key of the directory store, and the power fails.

Every call of one writer at which the other one may run, and every call of either at which the
machine may stop, with several ways for what was not synced to be lost. What a writer was told holds
afterwards, also that its condition had failed: whoever finds its own bytes then relies on them.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.base import StoreError, StoreNotFound
from hf_agent.store.directory_files import Busy, ObjectFiles
from hf_agent.store.ranges import ByteRange
from support.memory_tree import MemoryTree, PowerLoss
from support.store_operations import KEY, Operation, Outcome, explained

ROOT = "/data/store"
WAYS = int(os.environ.get("HF_POWER_LOSS_WAYS", "2"))
"""Ways for what was not synced to be lost, for each moment."""
PAIRS = [
    ("create", "create"),
    ("replace", "replace"),
    ("replace", "delete"),
    ("delete", "replace"),
    ("create", "delete"),
]
SIZE = 9000
"""Bytes of an object: three pages."""


class TreeClock(SystemClock):
    """The time of the files: by another one they would be old, and swept away."""

    def time(self) -> float:
        return MemoryTree.EPOCH


def files(tree: MemoryTree, seed: int) -> ObjectFiles:
    return ObjectFiles(ROOT, clock=TreeClock(), rng=random.Random(seed), disk=tree)


def attempt(tree: MemoryTree, operation: Operation) -> Outcome:
    """Do it, in a process of its own."""
    own, views = files(tree, operation.seed), [memoryview(operation.body)]
    try:
        match operation.kind:
            case "create":
                own.create(KEY, views)
            case "replace":
                own.replace(KEY, views, operation.etag)
            case "delete":
                own.delete(KEY)
    except Busy:
        return "busy"
    except StoreError as error:
        return type(error).__name__
    return "ok"


def content(tree: MemoryTree) -> bytes | None:
    try:
        return files(tree, 9).read(KEY, ByteRange(), None).data
    except StoreNotFound:
        return None


class Meeting:
    """One run: the second writer acts at a call of the first one, the machine stops at another."""

    def __init__(self, pair: tuple[str, str], second_at: int, stop_at: int) -> None:
        self.tree = MemoryTree()
        self.tree.mkdir("/data")
        self.tree.top.sync()
        self.before: bytes | None = None
        etag = ""
        if pair != ("create", "create") and pair != ("create", "delete"):
            self.before = b"o" * SIZE
            etag = files(self.tree, 8).create(KEY, [memoryview(self.before)])
        self.operations = [
            Operation(kind, bytes([97 + place]) * SIZE, self.before or b"", etag, seed=place)
            for place, kind in enumerate(pair)
        ]
        self.outcomes: list[Outcome | None] = [None, None]
        self.begun = [True, False]
        self.stopped = False
        self._second_at = second_at
        self._stop_at = stop_at
        self._first_calls = 0
        self._inside = False
        self._base = self.tree.calls

    def run(self) -> None:
        self.tree.before = self._call
        try:
            self.outcomes[0] = attempt(self.tree, self.operations[0])
            if not self.begun[1]:
                self._second()
        except PowerLoss:
            self.stopped = True

    def _second(self) -> None:
        self.begun[1], self._inside = True, True
        self.outcomes[1] = attempt(self.tree, self.operations[1])
        self._inside = False

    def _call(self, number: int, name: str) -> None:
        if not self._inside:
            self._first_calls += 1
            if self._first_calls == self._second_at:
                self._second()
        if self.tree.calls - self._base >= self._stop_at:
            raise PowerLoss

    def check(self, rng: random.Random) -> None:
        """Lose what was not synced, and see that the rest is explained."""
        self.tree.power_loss(rng)
        after = content(self.tree)
        happened = [
            # That there was nothing is no promise: what somebody else is just removing may be back.
            (operation, "busy" if outcome == "StoreNotFound" else outcome)
            for operation, outcome, begun in zip(
                self.operations, self.outcomes, self.begun, strict=True
            )
            if begun
        ]
        assert explained(self.before, after, happened), (
            [(each.kind, outcome) for each, outcome in happened],
            after and (after[:3], len(after), len(set(after))),
            f"second_at={self._second_at} stop_at={self._stop_at}",
        )
        survivor = files(self.tree, 7)
        if after is None:
            survivor.create(KEY, [memoryview(b"next")])
        else:
            etag = survivor.read(KEY, ByteRange(0, 0), None).info.etag
            survivor.replace(KEY, [memoryview(b"next")], etag)
        assert content(self.tree) == b"next"


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_whenever_the_power_fails_what_a_writer_was_told_holds(pair: tuple[str, str]) -> None:
    outcomes = set()
    second_at, met = 1, True
    while met:
        # Before the second one begins, the machine stops as it did for the call before.
        stop_at, stopped = second_at, True
        while stopped:
            for way in range(WAYS):
                meeting = Meeting(pair, second_at, stop_at)
                meeting.run()
                meeting.check(random.Random(f"{second_at} {stop_at} {way}"))
            stopped = meeting.stopped
            stop_at += 1
        outcomes.add(tuple(meeting.outcomes))
        met = meeting._first_calls >= second_at
        second_at += 1
    assert second_at > 5
    if pair == ("replace", "replace"):
        assert outcomes == {("StoreConflict", "ok"), ("ok", "busy"), ("ok", "StoreConflict")}


@pytest.mark.parametrize("forgotten", ["file", "directory"])
def test_a_store_that_forgets_a_sync_is_found(
    forgotten: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = MemoryTree.fsync

    def forgetful(self: MemoryTree, fd: int) -> None:
        kind = type(self._open[fd].node).__name__
        if kind != {"file": "_File", "directory": "_Folder"}[forgotten]:
            sync(self, fd)

    monkeypatch.setattr(MemoryTree, "fsync", forgetful)
    with pytest.raises(AssertionError):
        for way in range(50):
            meeting = Meeting(("create", "delete"), 10**6, 10**6)
            meeting.operations[1] = replace(meeting.operations[0], seed=1)
            meeting.run()
            assert meeting.outcomes == ["ok", "StoreConflict"]
            meeting.check(random.Random(way))
