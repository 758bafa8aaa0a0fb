"""One torture: clients load an agent that dies again and again; then everything is checked."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torture.ballast import Ballast
from torture.check import check_stored
from torture.draining import drain
from torture.forked_agent import ForkedAgent, Nursery
from torture.lives import TROUBLES, Life, Outcomes, lives
from torture.load import Load
from torture.stores import TorturedStore, tortured_store
from torture.watcher import Watcher

__all__ = ["Plan", "torture"]

WAL = (
    'file_bytes = "1MiB"\nmax_bytes = "32MiB"\nmax_batch_bytes = "128KiB"\n'
    'max_pending_bytes = "256KiB"\nmax_chunk_age = "30d"'
)
FLUSH = (
    'interval = "100ms"\nbytes = "512KiB"\nblock_size = "4KiB"\nretry_min = "5ms"\n'
    'retry_max = "100ms"\nshutdown_timeout = "120s"'
)
_DRAINS_WITHIN = 600.0
_SHOWN_WITHIN = 300.0
_MAX_RECORD = "64KiB"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what. The same plan draws the same lives; what they meet is the machine's."""

    store: str = "directory"
    kills: int = 500
    """End after so many deaths by SIGKILL."""
    seconds: float = 0.0
    """End after that time too; 0: only after the kills."""
    seed: int = 1
    rate: float = 0.05
    """Share of the requests to an S3 server that meet a fault."""
    troubles: tuple[str, ...] = TROUBLES
    tmpfs: int = 0
    """Bytes of a file system in memory for the WAL, which is filled up now and then; 0: none."""
    pause: float = 1.0
    """Stretches the clients' pauses."""
    always: tuple[tuple[str, Any], ...] = ()
    """Trouble of every life, for tests of the torture itself."""


def torture(plan: Plan, folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run it below `folder`, which is new; returns figures. Raises `AssertionError`."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    with (
        Nursery() as nursery,
        tortured_store(plan.store, folder, plan.seed, rate=plan.rate) as store,
    ):
        torturer = _Torturer(plan, folder, nursery, store, say)
        try:
            figures = torturer.run()
        finally:
            torturer.close()
    return {"seconds": round(time.monotonic() - began, 1), **figures}


class _Torturer:
    def __init__(
        self,
        plan: Plan,
        folder: Path,
        nursery: Nursery,
        store: TorturedStore,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._say = say
        self._store = store
        self._rng = random.Random(f"torturer {plan.seed}")
        self._pause = threading.Event()
        self._outcomes = Outcomes()
        self._ballast = Ballast(folder / "small", plan.tmpfs) if plan.tmpfs else None
        wal_dir = folder / "small" / "wal" if plan.tmpfs else folder / "a" / "wal"
        self._agent = ForkedAgent(
            nursery,
            folder / "a",
            store_url=store.url,
            s3=store.s3,
            env=store.env,
            wal=f'{WAL}\ndir = "{wal_dir}"',
            flush=FLUSH,
            max_record_bytes=_MAX_RECORD,
        )
        self._agent.wal_dir = wal_dir
        agent = self._agent
        self._load = Load.on(
            *(agent.append_socket, agent.forward_socket, agent.lines_socket),
            plan.seed,
            pause=plan.pause,
        )

        watching = random.Random(f"watcher {plan.seed}")
        self._watcher = Watcher(store.open, "node-1/", watching)

    def run(self) -> dict[str, Any]:
        self._agent.start()
        self._load.start()
        self._watcher.start()
        self._agent.kill()
        began, lived = time.monotonic(), 0
        ends = began + self._plan.seconds if self._plan.seconds else float("inf")
        drawn = lives(self._plan.seed, self._plan.troubles, s3=self._plan.store != "directory")
        while self._outcomes.kills < self._plan.kills and time.monotonic() < ends:
            self._live(next(drawn))
            self._load.check_alive()
            lived += 1
            if lived % 50 == 0:
                self._say(self._progress(lived, time.monotonic() - began))
        seconds = time.monotonic() - began
        if self._ballast is not None:
            self._ballast.remove()
        self._end()
        self._watcher.end()
        return {
            "kills": self._outcomes.kills,
            "lives": lived,
            "seconds of killing": round(seconds, 1),
            "what happened": dict(sorted(self._outcomes.counts.items())),
            **self._load.figures(),
            "readings beside it": self._watcher.readings,
            "of them with more than before": self._watcher.grown,
            "store faults": len(self._store.faults.log) if self._store.faults else 0,
            **check_stored(self._store.objects(), self._load, prefix="node-1/"),
            **self._store.leftovers(),
        }

    def _progress(self, lived: int, seconds: float) -> str:
        return f"{seconds:6.0f} s  {lived} lives  {self._outcomes.kills} kills  " + "  ".join(
            f"{count} {what}" for what, count in self._load.figures().items()
        )

    # -- one life --------------------------------------------------------------------------

    def _live(self, life: Life) -> None:
        self._agent.begin(**life.trouble, **dict(self._plan.always))
        if self._ballast is not None:
            self._ballast.change(self._rng)
        if not life.dies_early:
            self._agent.ready()
        if life.flushes:
            # Before it is ready it may have no handler yet, and die of it: as of any other signal.
            self._agent.send(signal.SIGUSR1)
        if not self._agent.ended(life.seconds):
            self._end_life(life)
        self._judge(life)

    def _end_life(self, life: Life) -> None:
        agent = self._agent
        if life.end == "stop-kill":
            for _ in range(self._rng.randint(1, 3)):
                agent.send(signal.SIGSTOP)
                self._pause.wait(self._rng.uniform(0, 0.05))
                agent.send(signal.SIGCONT)
                self._pause.wait(self._rng.uniform(0, 0.05))
            self._outcomes.add("stopped and continued")
        elif life.end.startswith("term"):
            agent.send(signal.SIGTERM)
            if life.end == "term" and not agent.ended(_DRAINS_WITHIN if self._calm else 1.0):
                self._outcomes.add("killed as it did not drain in time")
            elif agent.ended(self._rng.uniform(0, 0.2)):
                return
        agent.kill()

    @property
    def _calm(self) -> bool:
        return self._ballast is None

    def _judge(self, life: Life) -> None:
        """Only a disk in trouble is a reason to end with an error; nothing is for a traceback."""
        status = self._agent.wait()
        log = self._agent.log_text()
        assert "Traceback" not in log, f"{life}\n{log}"
        if status == -signal.SIGKILL:
            point = life.trouble.get("point") if self._at_point(life) else None
            self._outcomes.add(f"killed at {point}" if point else "killed from outside")
        elif status in (-signal.SIGTERM, -signal.SIGUSR1):
            self._outcomes.add("ended by a signal before it had a handler")
        elif status == 0:
            assert life.end.startswith("term"), f"it stopped by itself: {life}\n{log}"
            self._outcomes.add("stopped by SIGTERM")
        else:
            assert life.may_fail or self._ballast is not None, f"status={status} {life}\n{log}"
            assert status in (74, 78), f"status={status} {life}\n{log}"
            self._outcomes.add(f"ended with status {status}")

    def _at_point(self, life: Life) -> bool:
        return bool(life.trouble.get("point")) and not self._agent.killed

    # -- the end ---------------------------------------------------------------------------

    def _end(self) -> None:
        """A life without trouble: everything is acknowledged, flushed, and gone from the WAL."""
        agent = self._agent
        agent.begin(**dict(self._plan.always))
        assert agent.ready(), agent.log_text()
        # A few kills are over within a second, and may have left no time for anything but dying.
        self._load.wait_answered(_SHOWN_WITHIN)
        assert self._watcher.has_grown.wait(_SHOWN_WITHIN), "no reader has seen anything"
        drain(agent, self._load)

    def close(self) -> None:
        self._agent.close()
        self._load.end()
        self._watcher.tell_to_end()
        if self._ballast is not None:
            self._ballast.unmount()
