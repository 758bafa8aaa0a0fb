"""One soak: a loaded agent lives a few long lives, and is sampled all the time."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from soak.sampling import MEASURES, Life, Row, sample, table
from soak.slope import Tolerance
from soak.visitors import Visitors
from support.agent_process import AgentProcess
from torture.check import check_stored
from torture.draining import drain
from torture.load import Load
from torture.stores import tortured_store

__all__ = ["Soak", "soak"]

WAL = (
    'file_bytes = "4MiB"\nmax_bytes = "64MiB"\nmax_batch_bytes = "128KiB"\n'
    # What is remembered up to a bound has to be full before the second half of a life begins.
    "max_chunk_ids = 2000"
)
FLUSH = (
    'interval = "500ms"\nbytes = "1MiB"\nretry_min = "20ms"\nretry_max = "500ms"\n'
    'shutdown_timeout = "120s"'
)
_STREAMS = 8
"""That change: a stream is remembered for good, so their number has to stay the same."""


@dataclass(frozen=True, slots=True)
class Soak:
    """How long, and of what."""

    seconds: float = 3600.0
    lives: int = 4
    """The process is restarted in between, by SIGKILL and by SIGTERM in turn."""
    interval: float = 5.0
    """Seconds between two samples."""
    store: str = "directory"
    seed: int = 1
    rate: float = 0.05
    """Share of the requests to an S3 server that meet a fault."""
    pause: float = 2.0
    """Stretches the clients' pauses."""
    measures: Mapping[str, Tolerance] = field(default_factory=lambda: MEASURES)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it."""

    rows: list[Row]
    figures: dict[str, Any]


def soak(plan: Soak, folder: Path, say: Callable[[str], None] = print) -> Report:
    """Run it below `folder`, which is new. Raises `AssertionError` for anything but growth."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    with tortured_store(plan.store, folder, plan.seed, rate=plan.rate) as store:
        agent = AgentProcess(
            folder / "a",
            store_url=store.url,
            s3=store.s3,
            env=store.env,
            wal=WAL,
            flush=FLUSH,
            max_record_bytes="64KiB",
        )
        load = Load.on(
            *(agent.append_socket, agent.forward_socket, agent.lines_socket),
            plan.seed,
            pause=plan.pause,
            streams=_STREAMS,
        )
        # Not those of protocol lines: what a visitor leaves there is kept as a line.
        sockets = [agent.append_socket, agent.forward_socket, agent.http_socket]
        visitors = Visitors(sockets, random.Random(f"visitors {plan.seed}"))
        lives: list[Life] = []
        try:
            agent.start()
            load.start()
            visitors.start()
            for number in range(plan.lives):
                if number:
                    _restart(agent, kill=number % 2 == 1)
                lives.append(_live(agent, plan, random.Random(f"{plan.seed} {number}")))
                load.check_alive()
                say(_progress(number, lives[-1]))
            visitors.end()
            drain(agent, load)
        finally:
            agent.close()
            load.end()
        figures = {
            "seconds": round(time.monotonic() - began, 1),
            "lives of the process": len(lives),
            "samples": sum(len(life.times) for life in lives),
            "visits": visitors.visits,
            **load.figures(),
            "store faults": len(store.faults.log) if store.faults else 0,
            **check_stored(store.objects(), load, prefix="node-1/"),
        }
    return Report(table(lives, plan.measures), figures)


def _restart(agent: AgentProcess, *, kill: bool) -> None:
    if kill:
        agent.kill()
    else:
        agent.send(signal.SIGTERM)
        status = agent.wait(300)
        assert status == 0, agent.log_text()[-5000:]
    agent.start()


def _live(agent: AgentProcess, plan: Soak, rng: random.Random) -> Life:
    """Sample one life, in which it is held up and told to flush now and then."""
    life, pause = Life(), threading.Event()
    ends = time.monotonic() + plan.seconds / plan.lives
    while time.monotonic() < ends:
        pause.wait(plan.interval)
        event = rng.random()
        if event < 0.05:
            agent.send(signal.SIGSTOP)
            pause.wait(rng.uniform(0, 0.5))
            agent.send(signal.SIGCONT)
        elif event < 0.15:
            agent.send(signal.SIGUSR1)
        try:
            life.add(sample(agent))
        except (OSError, psutil.Error) as error:
            raise AssertionError(f"the agent is gone: {agent.log_text()[-5000:]}") from error
    return life


def _progress(number: int, life: Life) -> str:
    last = "  ".join(f"{name} {values[-1]:.1f}" for name, values in life.values.items())
    return f"life {number + 1}: {len(life.times)} samples  {last}"
