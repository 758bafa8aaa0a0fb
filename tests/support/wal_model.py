"""A plain model of the write-ahead log, and a driver that compares the log with it.

The model keeps everything in dictionaries, one copy of the state for each batch. After a crash the
log must be exactly the model after one of the batches, and none that was acknowledged may miss.
"""

from __future__ import annotations

import errno
import random
from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass, field

from hf_agent.wal import Wal, WalConfig
from hf_agent.wal.files import SyncFailure
from hf_agent.wal.gathering import NewMarks
from support.manual_clock import ManualClock
from support.wal_disk import MemoryDisk, PowerLoss

__all__ = ["CONFIG", "ModelRun"]

CONFIG = WalConfig(
    file_bytes=32 << 10,
    max_bytes=160 << 10,
    max_batch_bytes=4 << 10,
    max_pending_bytes=8 << 10,
    max_record_bytes=6 << 10,
    max_streams=6,
    max_marks=4,
    max_binary_marks=3,
    index_cache_bytes=3000,
)
STREAMS = ("a", "b/c", "d", "e", "f", "g")
KEYS: tuple[str | bytes, ...] = (
    *("k1", "k2", "k3", "k4", "k5", "k6"),
    *(b"k1", b"\xff2", b"k3", b"k4", b"k5"),
)
MARKS_KEPT = {str: CONFIG.max_marks, bytes: CONFIG.max_binary_marks}


@dataclass
class Model:
    """What the log holds after a batch."""

    data: dict[str, bytes] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)
    marks: OrderedDict[str | bytes, int] = field(default_factory=OrderedDict)

    def mark(self, key: str | bytes, value: int) -> None:
        if value > self.marks.get(key, 0):
            self.marks[key] = value
            self.marks.move_to_end(key)
        alike = [other for other in self.marks if type(other) is type(key)]
        for oldest in alike[: -MARKS_KEPT[type(key)]]:
            del self.marks[oldest]


class ModelRun:
    """One seeded run: random actions against a log on a `MemoryDisk`, checked all along."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = MemoryDisk()
        self.clock = ManualClock()
        self.models: dict[int, Model] = {0: Model()}
        """The state after each batch number since the last opening; 0: as opened."""
        self.committed: dict[str, int] = {}
        self.logged: dict[str, int] = {}
        self.next_mark = 1
        self.trace: list[str] = []
        self.wal = self._open()

    def run(self, actions: int) -> None:
        for _ in range(actions):
            self.clock.now += self.rng.choice((0, 0, 0.25))
            choice = self.rng.random()
            try:
                if choice < 0.35:
                    self.append()
                elif choice < 0.43:
                    self.append_all()
                elif choice < 0.45:
                    self.mark()
                elif choice < 0.52:
                    self.note()
                elif choice < 0.80:
                    self.wal.step()
                elif choice < 0.88:
                    self.commit()
                elif choice < 0.92:
                    self.check_content()
                elif choice < 0.94:
                    self.fill_up()
                elif choice < 0.95:
                    self.fail_writes_for_space()
                elif choice < 0.96:
                    self.fail_a_sync()
                elif choice < 0.97:
                    self.reopen()
                else:
                    self.disk.dies_at = self.disk.operations + self.rng.randrange(1, 12)
            except PowerLoss:
                self.crash()
        self.disk.dies_at = 0
        self.disk.capacity = 1 << 60
        self.disk.errors.clear()
        self.reopen()
        self.check_content()

    # Actions.

    def append(self) -> None:
        if not self.wal.accepts():
            return
        name = self.rng.choice(STREAMS)
        size = self.rng.choice((0, 1, 7, 8, 200, 700, 3000, CONFIG.max_record_bytes))
        data = self.rng.randbytes(size)
        marks = self._some_marks()
        view = self.wal.stream(name)
        taken = self.wal.append(name, data, marks=self._in_some_form(marks))
        if not size and not marks and view is not None:
            return
        model = self._model(taken.batch)
        model.data[name] = model.data.get(name, b"") + data
        for mark in marks:
            model.mark(*mark)
        assert taken.position == len(model.data[name])

    def append_all(self) -> None:
        if not self.wal.accepts():
            return
        names = self.rng.sample(STREAMS, self.rng.randrange(1, 5))
        parts = [(name, self.rng.randbytes(self.rng.choice((1, 9, 300, 1400)))) for name in names]
        marks = self._some_marks()
        taken = self.wal.append_all(parts, marks=self._in_some_form(marks))
        (batch,) = {appended.batch for appended in taken}
        model = self._model(batch)
        for (name, data), appended in zip(parts, taken, strict=True):
            model.data[name] = model.data.get(name, b"") + data
            assert appended.position == len(model.data[name])
        for mark in marks:
            model.mark(*mark)

    def mark(self) -> None:
        marks = self._some_marks()
        if not marks or not self.wal.accepts():
            return
        model = self._model(self.wal.mark(self._in_some_form(marks)))
        for mark in marks:
            model.mark(*mark)

    def note(self) -> None:
        name = self.rng.choice(STREAMS)
        data = self.rng.randbytes(self.rng.choice((1, 30, 200)))
        model = self._model(self.wal.note(name, data))
        model.notes[name] = data
        model.data.setdefault(name, b"")

    def commit(self) -> None:
        for view in list(self.wal.streams()):
            if self.rng.random() < 0.7 and view.durable > view.committed:
                position = self.rng.choice((view.durable, self._boundary(view.name)))
                self.wal.commit(view.name, position)
                self.committed[view.name] = max(self.committed.get(view.name, 0), position)

    def fill_up(self) -> None:
        used = sum(len(inode.data) for inode in self.disk.names.values())
        self.disk.capacity = self.rng.choice((used, used + 40_000, 1 << 60))

    def fail_writes_for_space(self) -> None:
        if self.disk.errors.pop("pwritev", None) is None:
            self.disk.errors["pwritev"] = errno.ENOSPC

    def fail_a_sync(self) -> None:
        self.trace.append("sync failure")
        self.disk.errors["fdatasync"] = self.disk.errors["fsync"] = errno.EIO
        try:
            self.wal.step()
        except (OSError, SyncFailure):
            self.disk.process_death()
            self._recovered()
        finally:
            self.disk.errors.clear()

    def reopen(self) -> None:
        self.trace.append("reopen")
        self.wal.close()
        assert self.wal.state.kind == "closed"
        self._recovered()

    def crash(self) -> None:
        power = self.rng.random() < 0.7
        self.trace.append("power loss" if power else "process death")
        if power:
            self.disk.power_loss(self.rng)
        else:
            self.disk.process_death()
        self._recovered()

    def _some_marks(self) -> list[tuple[str | bytes, int]]:
        marks: list[tuple[str | bytes, int]] = []
        while self.rng.random() < 0.4:
            # At first of one word, later of two.
            value = self.next_mark << 70 if self.next_mark > 40 else self.next_mark
            marks.append((self.rng.choice(KEYS), value))
            self.next_mark += 1
        return marks

    def _in_some_form(self, marks: list[tuple[str | bytes, int]]) -> NewMarks:
        """The same marks one by one, or all at once where none comes twice."""
        mapping = dict(marks)
        return mapping if len(mapping) == len(marks) and self.rng.random() < 0.5 else marks

    # Checks.

    def check_content(self) -> None:
        """Everything that is durable reads back as it was appended."""
        model = self._durable_model()
        for view in list(self.wal.streams()):
            assert view.first <= max(self.committed.get(view.name, 0), 0)
            position = view.first
            data = model.data.get(view.name, b"")
            while plan := self.wal.plan(view.name, position, self.rng.choice((1, 500, 9000))):
                buffer = bytearray(plan.nbytes)
                self.wal.read_into(plan, memoryview(buffer))
                assert buffer == data[plan.start : plan.end]
                assert plan.start == position
                position = plan.end
            assert position == view.durable == len(data)

    def _recovered(self) -> None:
        acknowledged = self.wal.durable_batch
        self.disk.errors.clear()
        while True:
            try:
                self.wal = self._open()
                break
            except PowerLoss:
                self.disk.power_loss(self.rng)
        state = self._as_recovered()
        fitting = [
            number
            for number, model in sorted(self.models.items())
            if number >= acknowledged and state == _comparable(model)
        ]
        assert fitting, (acknowledged, state, list(self.models), self.trace)
        self.models = {0: self.models[fitting[-1]]}
        for view in self.wal.streams():
            # A commit may be forgotten, but never made up.
            assert view.committed <= self.committed.get(view.name, 0)
            self.committed[view.name] = view.committed
        assert self.wal.size_bytes <= CONFIG.max_bytes

    def _open(self) -> Wal:
        if self.rng.random() < 0.1:
            self.disk.dies_at = self.disk.operations + self.rng.randrange(1, 12)
        while True:
            try:
                wal = Wal.open(
                    self.disk.root, CONFIG, disk=self.disk, clock=self.clock, rng=self.rng
                )
            except PowerLoss:
                self.trace.append("power loss while opening")
                self.disk.power_loss(self.rng)
                continue
            self.disk.dies_at = 0
            return wal

    def _as_recovered(self) -> object:
        views = list(self.wal.streams())
        return (
            {view.name: view.position for view in views},
            {view.name: view.note for view in views if view.note},
            {key: self.wal.last_mark(key) for key in KEYS if self.wal.last_mark(key)},
        )

    def _model(self, batch: int) -> Model:
        if batch not in self.models:
            self.models[batch] = deepcopy(self.models[max(self.models)])
        return self.models[batch]

    def _durable_model(self) -> Model:
        durable = self.wal.durable_batch
        return self.models[max(number for number in self.models if number <= durable)]

    def _boundary(self, name: str) -> int:
        view = self.wal.stream(name)
        assert view is not None
        start = max(view.first, view.committed)
        return self.wal.plan(name, start, 2000).end if start < view.durable else view.durable


def _comparable(model: Model) -> object:
    return (
        {name: len(data) for name, data in model.data.items()},
        model.notes,
        dict(model.marks),
    )
