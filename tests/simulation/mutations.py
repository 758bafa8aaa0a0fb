"""Bugs put in on purpose: what the simulation must find, or it proves nothing.

A mutation replaces a piece of a function's source, which must be there exactly once: when the code
changes, its mutation must be looked at again. Each is one of the mistakes that this project exists
to not make.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pytest

__all__ = ["MUTATIONS", "Edit", "Mutation", "Suite"]

Suite: TypeAlias = Literal["simulation", "model of the log"]


@dataclass(frozen=True)
class Edit:
    """Of each pair the first becomes the second in `target`: `hf_agent.wal.lock:take_lock`."""

    target: str
    pairs: tuple[tuple[str, str], ...]

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        module_name, _, path = self.target.partition(":")
        module = importlib.import_module(module_name)
        *owners, name = path.split(".")
        owner: Any = module
        for each in owners:
            owner = getattr(owner, each)
        original = inspect.getattr_static(owner, name)
        mutated = self._mutated(original, name, vars(module))
        patch.setattr(owner, name, mutated)
        if owner is module:
            # Others have imported it by name.
            for other in list(sys.modules.values()):
                if (
                    other.__name__.startswith("hf_agent.")
                    and vars(other).get(name) is original
                    and other is not module
                ):
                    patch.setattr(other, name, mutated)

    def _mutated(self, original: Any, name: str, names: dict[str, Any]) -> Callable[..., Any]:
        source = textwrap.dedent(inspect.getsource(original))
        for old, new in self.pairs:
            found = source.count(old)
            assert found == 1, f"{self.target} has changed: {found} times {old!r}"
            source = source.replace(old, new)
        scope = dict(names)
        code = compile("from __future__ import annotations\n" + source, "", "exec")
        exec(code, scope)
        result: Callable[..., Any] = scope[name]
        return result


@dataclass(frozen=True)
class Mutation:
    """One mistake."""

    name: str
    edits: tuple[Edit, ...]
    first: int = 1
    """A seed that is known to find it, to begin with. Only saves time."""
    suite: Suite = "simulation"
    """What is to find it: the model makes hundreds of crashes of a log in a second."""


def _one(
    name: str, target: str, old: str, new: str, *, first: int = 1, suite: Suite = "simulation"
) -> Mutation:
    return Mutation(name, (Edit(target, ((old, new),)),), first, suite)


_DISK = "hf_agent.wal.disk:"
_GATHERING = "hf_agent.wal.gathering:Gathering."
_WRITER = "hf_agent.wal.writer:Writer."
_ATTACHER = "hf_agent.flusher.attachment:Attacher."
_OWN = "hf_agent.flusher.own_commits:OwnCommits."
_INTAKE = "hf_agent.streams.intake:Intake."

MUTATIONS = [
    _one(
        "acknowledge before the sync",
        _DISK + "pwritev_all_sync",
        "elif disk.pwritev_sync(fd, buffers, offset) != size:",
        "elif disk.pwritev(fd, buffers, offset) != size:",
    ),
    _one(
        "acknowledge what went in pieces before the sync",
        _DISK + "pwritev_all_sync",
        """\
_MAX_IOVECS:
        pwritev_all(disk, fd, buffers, offset)
        disk.fdatasync(fd)""",
        """\
_MAX_IOVECS:
        pwritev_all(disk, fd, buffers, offset)""",
        first=4,
    ),
    _one(
        "acknowledge what was only taken",
        _INTAKE + "notify_durable",
        "if batch <= self._wal.durable_batch:",
        "if True:",
    ),
    _one(
        "ignore a short write",
        _DISK + "pwritev_all_sync",
        "elif disk.pwritev_sync(fd, buffers, offset) != size:",
        "elif disk.pwritev_sync(fd, buffers, offset) == 0:",
        first=41,
    ),
    _one(
        "acknowledge after a failed sync",
        _DISK + "pwritev_all_sync",
        "elif disk.pwritev_sync(fd, buffers, offset) != size:",
        """\
elif True:
        try:
            if disk.pwritev_sync(fd, buffers, offset) != size:
                pwritev_all(disk, fd, buffers, offset)
                disk.fdatasync(fd)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
    elif False:""",
        first=16,
    ),
    _one(
        "acknowledge what found no space",
        _WRITER + "_write",
        """\
        self._out_of_space(error)
        return False
    self._on_durable(batch.number)
""",
        """\
        self._out_of_space(error)
        self.durable_batch = batch.number
        self._on_durable(batch.number)
        return False
    self._on_durable(batch.number)
""",
        first=12,
    ),
    _one(
        "skip the directory's sync",
        "hf_agent.wal.rotation:rotate",
        "    sync(disk.fsync_dir, files.directory)\n",
        "",
        first=55,
    ),
    _one(
        "give a file its name before it is whole",
        "hf_agent.wal.rotation:write_file_start",
        "    sync(disk.fsync, fd)\n",
        "",
    ),
    _one(
        "free a file of the log before its bytes are committed",
        "hf_agent.wal.files:FileSet._uncommitted",
        "if streams[number].committed < end",
        "if False",
    ),
    _one(
        "free a file of the log without a record of what was committed",
        _WRITER + "_commit",
        "    item = commit_item(",
        "    return True\n    item = commit_item(",
    ),
    _one(
        "let two agents use one log",
        "hf_agent.wal.lock:take_lock",
        "if not disk.lock(handle.fd):",
        "if not disk.lock(handle.fd) and False:",
    ),
    Mutation(
        "take a stale record for a live one",
        (
            Edit("hf_agent.wal.record:file_seed", (("return ", "return 7 or "),)),
            Edit(
                "hf_agent.wal.tail:scan_batches",
                (
                    (
                        "if found is None or found.header.batch <= tail.batch:",
                        "if found is None:",
                    ),
                    ("if header.batch != tail.batch + 1:", "if header.batch > tail.batch + 1:"),
                    ("header.time_ns != pending[0][0].header.time_ns", "False"),
                ),
            ),
        ),
        first=56,
        suite="model of the log",
    ),
    _one(
        "take a torn record for a whole one",
        "hf_agent.wal.tail:scan_batches",
        "not scanner.payload_is_good(found)",
        "False",
        first=1,
        suite="model of the log",
    ),
    _one(
        "take what a dead process wrote for synced",
        "hf_agent.wal.tail:make_tail_durable",
        """\
    _rewrite(disk, fd, scanner, tail.start, tail.offset)
    _clear(disk, fd, tail.offset, tail.dirty_end)
    _clear(disk, fd, file_size - FOOTER_BYTES, file_size)  # of an unfinished sealing
    disk.fdatasync(fd)
""",
        "    pass\n",
        first=2,
        suite="model of the log",
    ),
    _one(
        "drop the deduplication marks at a rotation",
        "hf_agent.wal.snapshot:pack_snapshot",
        "for key, value in state.marks.items()",
        "for key, value in ()",
        first=1,
        suite="model of the log",
    ),
    _one(
        "keep no deduplication mark with an append",
        _GATHERING + "_unusual",
        "self._mark(batch, marks)",
        "pass",
    ),
    _one(
        "make an append to two streams durable in two steps",
        _GATHERING + "append_all",
        "            appended.append(Appended(batch.number, part.state.position))\n",
        """\
            appended.append(Appended(batch.number, part.state.position))
            self._close_batch()
            batch = self._batch
""",
    ),
    _one(
        "answer a resend before what it repeats is durable",
        "hf_agent.ingest.append_connection:AppendConnection._on_known",
        "batch = self._sink.barrier()",
        "batch = 0",
        first=59,
    ),
    _one(
        "commit half an append",
        "hf_agent.flusher.stream_flush:StreamFlush.run",
        """\
            build = await appender.begin(end - start)
            # The payload goes from the page cache to its place in the checkpoint object.
            await asyncio.to_thread(self._wal.read_into, plan, build.body)
""",
        """\
            data = bytearray(end - start)
            await asyncio.to_thread(self._wal.read_into, plan, memoryview(data))
            end -= len(data) // 3
            build = await appender.begin(end - start)
            build.body[:] = data[: end - start]
""",
    ),
    _one(
        "forget a bind",
        _ATTACHER + "_log_bind",
        "await self._durable(self._wal.note(name, encode_bind(bind)))",
        "return None",
    ),
    _one(
        "take a foreign writer's bytes for ours after a restart",
        _ATTACHER + "_resolve",
        "ours = await self.own_commits.find(view.name, bind, appender, view.durable)",
        """\
end = min(bind.position + appender.size - bind.offset, view.durable)
    return _Resolved(_Standing.OURS, appender, max(known, end))
""",
        first=4,
    ),
    _one(
        "treat a lost answer as a conflict",
        _OWN + "tried",
        "self._tried.setdefault(stream, deque(maxlen=_MAX_ATTEMPTS)).append(fingerprint(inode))",
        "pass",
        first=4,
    ),
    _one(
        "drop what a conflict kept from being stored",
        _ATTACHER + "attach",
        "return await self._divert(name, bind, found.committed)",
        "return await self._divert(name, bind, view.durable)",
        first=4,
    ),
    _one(
        "use the name of an object again after a refusal",
        "hf_agent.hyperfile.commit:CheckpointCommit._create_object",
        """\
            self._tried = False
            await self._skip_taken_number(refused)
""",
        "            await self._store.delete(key)\n",
        first=4,
    ),
    _one(
        "say stored before it is",
        _INTAKE + "notify_stored",
        "if state is None or position <= state.committed:",
        "if True:",
    ),
]
