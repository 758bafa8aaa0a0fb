"""A state machine drives files against plain byte strings, over every format and store."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import tempfile
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hf_agent.clock import SystemClock
from hf_agent.hyperfile import (
    ConflictError,
    FileOptions,
    HyperFile,
    checkpoint_at,
    diff,
    list_checkpoints,
    rollback,
)
from hf_agent.hyperfile.check import check_structure
from hf_agent.hyperfile.file.options import Mode
from hf_agent.hyperfile.verify import verify_container
from hf_agent.store.base import Store
from hf_agent.store.directory import DirectoryStore
from support.file_model import FileModel
from support.memory_store import MemoryStore
from support.moto_s3 import MotoS3, moto_s3  # noqa: F401 -- a fixture
from support.s3_stores import credentials  # noqa: F401 -- a fixture
from support.skipping_clock import SkippingClock

T = TypeVar("T")
KEY = "a/file"
ON_DEMAND = "HF_AGENT_STEPS" in os.environ
STEPS = int(os.environ.get("HF_AGENT_STEPS", "8000"))
"""Steps over all machines; thousands of them on demand."""
SHRINK = "HF_AGENT_SHRINK" in os.environ
"""Look for the shortest failing run, which takes minutes."""
STEPS_EACH = 50
MACHINES = 20
"""Among which the steps are divided evenly, but for those on S3."""
ON_S3 = 25
"""There each step takes some requests of a server: so many times fewer of them."""
SEEN_AFTER = 3000
"""Steps after which a machine must have met everything that it is for."""
MUST_MEET = {"conflict", "on top of another", "discarded", "reopened", "went back", "rolled back"}

Name = Literal["fail", "retry"]
NAMES: tuple[Name, Name] = ("fail", "retry")

edges = st.tuples(st.integers(0, 14), st.sampled_from([-1, 0, 0, 1, 100, 3000]))
"""An offset: a block, and bytes from its start."""


class FileMachine(RuleBasedStateMachine):
    """Two files on one container: one fails in conflicts, the other goes on top."""

    pointer_format = 3
    block_size = 4096
    steps = 0
    """Of all machines of the class."""
    counts: ClassVar[Counter[str]] = Counter()
    """What came of them that must not be missed out."""
    far = 0
    """Blocks left out between those that offsets are drawn from: for maps of many nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = SkippingClock()
        self.store: Store = self.make_store()
        self.states: dict[int, bytes] = {0: b""}
        self.times: dict[int, float] = {}
        self.newest = 0
        self.files: dict[str, HyperFile] = {}
        self.models: dict[str, FileModel] = {}
        self.modes: dict[int, int] = {0: 0o100644}

    elsewhere = False
    """Whether on another store than in memory, which does not show in what order it is written."""

    def make_store(self) -> Store:
        return MemoryStore()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def teardown(self) -> None:
        for file in self.files.values():
            self.run(file.abort())
        self.run(self.store.close())
        self.runner.close()

    # -- opening ------------------------------------------------------------------------------

    @initialize(
        seed=st.integers(0, 1 << 32),
        part_blocks=st.sampled_from([1, 3, 9, 1000]),
        dirty_blocks=st.sampled_from([0, 4, 15, 1000]),
        cache_bytes=st.sampled_from([0, 30_000, 1 << 20]),
    )
    def begin(self, seed: int, part_blocks: int, dirty_blocks: int, cache_bytes: int) -> None:
        self.rng = random.Random(seed)
        if isinstance(self.store, MemoryStore):
            self.store.supports_metadata = bool(seed & 1)
        parted = self.pointer_format >= 3
        self.options = {
            name: FileOptions(
                block_size=self.block_size,
                pointer_format=self.pointer_format,
                part_bytes=8192 + part_blocks * self.block_size if parted else 1 << 30,
                dirty_bytes=dirty_blocks * self.block_size,
                cache_bytes=cache_bytes,
                on_conflict=name,
            )
            for name in NAMES
        }
        self.open("fail", "x")
        self.created = self.run(self.store.get(f"{KEY}/inode")).data
        self.open("retry", "r+")

    def open(self, name: Name, mode: Mode) -> None:
        self.files[name] = self.run(
            HyperFile.open(
                *(self.store, KEY, mode),
                clock=self.clock,
                rng=self.rng,
                options=self.options[name],
            )
        )
        self.models[name] = FileModel(bytearray(self.states[self.newest]), self.newest)
        if mode == "w":
            self.models[name].truncate(0)
        assert self.files[name].dirty == self.models[name].dirty

    def offset(self, at: tuple[int, int]) -> int:
        block = at[0] + (at[0] - 6) * self.far if at[0] > 6 else at[0]
        return max(block * self.block_size + at[1], 0)

    @invariant()
    def count(self) -> None:
        type(self).steps += 1

    def met(self, what: str) -> None:
        self.counts[what] += 1

    # -- changes ------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), at=edges, to=edges, zeros=st.booleans())
    def write(self, name: Name, at: tuple[int, int], to: tuple[int, int], zeros: bool) -> None:
        start, end = sorted((self.offset(at), self.offset(to)))
        data = bytes(end - start) if zeros else self.rng.randbytes(end - start)
        assert self.run(self.files[name].pwrite(start, data)) == len(data)
        self.models[name].write(start, data)

    @rule(name=st.sampled_from(NAMES), at=edges, length=st.sampled_from([1, 50, 4096, 5000]))
    def write_a_little(self, name: Name, at: tuple[int, int], length: int) -> None:
        data = self.rng.randbytes(length)
        self.run(self.files[name].pwrite(self.offset(at), memoryview(data)))
        self.models[name].write(self.offset(at), data)

    @rule(name=st.sampled_from(NAMES), length=st.sampled_from([0, 1, 4096, 70_000]))
    def append(self, name: Name, length: int) -> None:
        model, data = self.models[name], bytearray(self.rng.randbytes(length))
        if len(model.content) < (30 + 10 * self.far) * self.block_size:
            assert self.run(self.files[name].append(data)) == len(model.content)
            model.write(len(model.content), bytes(data))

    @rule(name=st.sampled_from(NAMES), at=edges, to=edges)
    def zero(self, name: Name, at: tuple[int, int], to: tuple[int, int]) -> None:
        start, end = sorted((self.offset(at), self.offset(to)))
        self.run(self.files[name].zero(start, end - start))
        self.models[name].write(start, bytes(end - start))

    @rule(name=st.sampled_from(NAMES), at=edges)
    def truncate(self, name: Name, at: tuple[int, int]) -> None:
        self.run(self.files[name].truncate(self.offset(at)))
        self.models[name].truncate(self.offset(at))

    @rule(name=st.sampled_from(NAMES), at=edges, to=edges)
    def cut_and_grow(self, name: Name, at: tuple[int, int], to: tuple[int, int]) -> None:
        """What was behind the cut must not come back."""
        for size in sorted((self.offset(at), self.offset(to))):
            self.run(self.files[name].truncate(size))
            self.models[name].truncate(size)

    @rule(name=st.sampled_from(NAMES), mode=st.sampled_from([0o600, 0o755]))
    def set_mode(self, name: Name, mode: int) -> None:
        self.files[name].set_attributes(mode=mode)
        self.models[name].attributes["mode"] = 0o100000 | mode

    # -- flushing -----------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES))
    def flush(self, name: Name) -> None:
        file, model = self.files[name], self.models[name]
        self.clock.now += 10
        changed = model.dirty or bool(model.attributes)
        if changed and name == "fail" and model.base != self.newest:
            self.met("conflict")
            for _ in range(2):
                with pytest.raises(ConflictError):
                    self.run(file.flush())
            self.look(name)
            return
        result = self.run(file.flush())
        if not changed:
            assert result is None
            return
        assert result is not None
        theirs = self.states[self.newest]
        if model.base != self.newest:
            self.met("on top of another")
        content = bytes(model.content) if model.base == self.newest else model.on_top_of(theirs)
        assert result.checkpoint > self.newest
        assert (file.checkpoint, file.size) == (result.checkpoint, result.size)
        self.commit(result.checkpoint, content, model.attributes.get("mode"))
        self.models[name] = FileModel(bytearray(content), self.newest)
        self.look(name)

    def commit(self, number: int, content: bytes, mode: int | None = None) -> None:
        self.states[number], self.times[number] = content, self.clock.time()
        self.modes[number] = self.modes[self.newest] if mode is None else mode
        self.newest = number
        self.check()

    def check(self) -> None:
        """Every rule of the format, by code that shares nothing with what wrote this."""
        violations = self.run(check_structure(self.store, KEY, created=self.created, bases_after=0))
        assert [str(each) for each in violations] == []
        if isinstance(self.store, MemoryStore):
            # Part 0 was created last.
            made = [call.key for call in self.store.calls if call.operation == "create"]
            of_newest = [name for name in made if f"/{self.newest:010d}" in name]
            last = f"{KEY}/{self.newest:010d}" + (".0" if self.pointer_format >= 3 else "")
            assert of_newest[-1] == last
            if len(of_newest) > 1:
                self.met("parts")
            self.store.calls.clear()

    @rule(name=st.sampled_from(NAMES), at=edges, mine=edges)
    def overtake(self, name: Name, at: tuple[int, int], mine: tuple[int, int]) -> None:
        """The other file flushes while this one has changes."""
        other: Name = "retry" if name == "fail" else "fail"
        if self.models[other].base != self.newest:
            self.run(self.files[other].abort())
            self.open(other, "r+")
        self.write_a_little(name, mine, 50)
        self.write_a_little(other, at, 100)
        self.flush(other)
        self.flush(name)

    @rule(name=st.sampled_from(NAMES))
    def discard(self, name: Name) -> None:
        file, model = self.files[name], self.models[name]
        if file.dirty:
            self.met("discarded")
        file.discard()
        assert not file.dirty
        self.models[name] = FileModel(bytearray(self.states[model.base]), model.base)
        self.look(name)

    @rule(name=st.sampled_from(NAMES))
    def refresh(self, name: Name) -> None:
        file, model = self.files[name], self.models[name]
        if model.dirty or model.attributes:
            with pytest.raises(OSError, match="unflushed"):
                self.run(file.refresh())
            return
        assert self.run(file.refresh()) == (model.base != self.newest)
        self.models[name] = FileModel(bytearray(self.states[self.newest]), self.newest)
        self.look(name)

    @rule(name=st.sampled_from(NAMES), mode=st.sampled_from(["r+", "w", "a"]))
    def reopen(self, name: Name, mode: Mode) -> None:
        self.run(self.files[name].abort())
        assert self.files[name].closed
        self.open(name, mode)
        self.met("reopened")
        if mode == "a":
            self.append(name, 100)
            self.flush(name)
            self.run(self.files[name].abort())
            self.open(name, "r+")

    @rule(which=st.integers(0, 1 << 20))
    @precondition(lambda self: self.newest)
    def roll_back(self, which: int) -> None:
        self.met("rolled back")
        number = sorted(self.times)[which % len(self.times)]
        self.clock.now += 10
        result = self.run(rollback(self.store, KEY, number, clock=self.clock, rng=self.rng))
        self.commit(result.checkpoint, self.states[number], self.modes[number])

    # -- looking ------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), at=edges, to=edges)
    def read(self, name: Name, at: tuple[int, int], to: tuple[int, int]) -> None:
        start, end = sorted((self.offset(at), self.offset(to)))
        found = self.run(self.files[name].pread(start, end - start))
        assert found == self.models[name].content[start:end]

    @rule(name=st.sampled_from(NAMES))
    def look(self, name: Name) -> None:
        file, model = self.files[name], self.models[name]
        assert file.size == file.stat().size == len(model.content)
        assert self.run(file.pread(0, file.size + 1)) == model.content
        assert file.dirty == (model.dirty or bool(model.attributes))
        mode = model.attributes.get("mode", self.modes[model.base])
        assert file.stat().mode == mode

    @rule(name=st.sampled_from(NAMES))
    def seek(self, name: Name) -> None:
        """Data and holes alternate, and what is not data reads as zeros."""
        file, content = self.files[name], self.models[name].content
        at = 0
        while at < len(content):
            try:
                data = self.run(file.seek_data(at))
            except OSError:
                data = len(content)
            assert not any(content[at:data])
            if data == len(content):
                break
            at = self.run(file.seek_hole(data))
            assert data < at <= len(content)
            assert at % self.block_size == 0 or at == len(content)

    @rule(which=st.integers(0, 1 << 20), by_time=st.booleans())
    @precondition(lambda self: self.newest)
    def go_back(self, which: int, by_time: bool) -> None:
        self.met("went back")
        number = sorted(self.times)[which % len(self.times)]
        when: dict[str, Any] = {"checkpoint": number}
        if by_time:
            when = {"at_time": self.times[number] + 5}
            found = self.run(checkpoint_at(self.store, KEY, self.times[number] + 5))
            assert found is not None
            assert found.number == number
        file = self.run(HyperFile.open(self.store, KEY, clock=self.clock, rng=self.rng, **when))
        assert self.run(file.pread(0, file.size)) == self.states[number]
        assert file.checkpoint == number
        assert not self.run(file.refresh())

    @rule(a=st.integers(0, 1 << 20), b=st.integers(0, 1 << 20))
    def differ(self, a: int, b: int) -> None:
        numbers = sorted(self.states)
        old, new = numbers[a % len(numbers)], numbers[b % len(numbers)]
        ranges = self.run(diff(self.store, KEY, old, new))
        left, right = self.states[old], self.states[new]
        end = max(len(left), len(right))
        assert all(start < stop for start, stop in ranges)
        assert all(one[1] < two[0] for one, two in itertools.pairwise(ranges))
        assert not ranges or ranges[-1][1] <= end
        outside = [0, *itertools.chain(*ranges), end]
        for start, stop in zip(outside[::2], outside[1::2], strict=True):
            assert left[start:stop] == right[start:stop]
            assert start == stop or stop <= min(len(left), len(right))

    @rule()
    def verify(self) -> None:
        report = self.run(verify_container(self.store, KEY))
        assert report.errors == []
        assert (report.checkpoint, report.versions) == (self.newest, len(self.times))
        assert report.size == len(self.states[self.newest])

    @rule()
    def history(self) -> None:
        async def listed() -> list[tuple[int, float, int]]:
            return [
                (each.number, each.time, each.size)
                async for each in list_checkpoints(self.store, KEY)
            ]

        expected = [(n, self.times[n], len(self.states[n])) for n in sorted(self.times)[::-1]]
        assert self.run(listed()) == expected


def run_machine(machine: type[FileMachine], *, on_s3: bool = False) -> None:
    machine.steps, machine.counts = 0, Counter()
    # The first example of a machine is the simplest, which does nothing.
    examples = max(STEPS // STEPS_EACH // MACHINES // (ON_S3 if on_s3 else 1), 2)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS_EACH,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=list(Phase) if SHRINK else [Phase.explicit, Phase.reuse, Phase.generate],
            report_multiple_bugs=False,
            print_blob=True,
        ),
    )
    print(f"{machine.steps} steps: {dict(machine.counts)}")
    assert machine.steps >= examples * STEPS_EACH // 2
    if machine.steps >= SEEN_AFTER:
        parts = {"parts"} if machine.pointer_format >= 3 and not machine.elsewhere else set()
        assert not (MUST_MEET | parts) - machine.counts.keys()


every_format = pytest.mark.parametrize("pointer_format", [1, 2, 3, 4])
both_sizes = pytest.mark.parametrize("block_size", [4096, 65536])


@both_sizes
@every_format
def test_a_file_is_what_was_written_to_it(pointer_format: int, block_size: int) -> None:
    class Machine(FileMachine):
        pass

    Machine.pointer_format, Machine.block_size = pointer_format, block_size
    run_machine(Machine)


@every_format
def test_a_file_with_a_deep_map_is_what_was_written_to_it(pointer_format: int) -> None:
    class Machine(FileMachine):
        far = 150

    Machine.pointer_format = pointer_format
    run_machine(Machine)


@both_sizes
@every_format
def test_the_same_on_the_directory_store(pointer_format: int, block_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        counter = itertools.count()

        class Machine(FileMachine):
            elsewhere = True

            def make_store(self) -> Store:
                place = Path(folder) / str(next(counter))
                return DirectoryStore(place, clock=SystemClock(), rng=random.Random(1))

        Machine.pointer_format, Machine.block_size = pointer_format, block_size
        run_machine(Machine)


@both_sizes
@every_format
def test_the_same_on_s3(
    request: pytest.FixtureRequest, pointer_format: int, block_size: int
) -> None:
    if not ON_DEMAND and block_size == (65536 if pointer_format % 2 else 4096):
        pytest.skip("set HF_AGENT_STEPS for this format with this block size on S3, too")
    server: MotoS3 = request.getfixturevalue("moto_s3")

    class Machine(FileMachine):
        elsewhere = True

        def make_store(self) -> Store:
            from hf_agent.store.s3 import S3Store

            bucket = server.make_bucket()
            return S3Store(bucket, "prefix", options=server.options(), clock=SystemClock())

    Machine.pointer_format, Machine.block_size = pointer_format, block_size
    run_machine(Machine, on_s3=True)
