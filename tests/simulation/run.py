"""Runs many seeds: `python tests/simulation/run.py --seeds 1-10000 --jobs 2`.

Ends with status 1 and the command that replays each failing seed. `--for 10m` goes on with further
seeds until the time is up; `--replay SEED` runs one and writes every event.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator
from itertools import count
from multiprocessing.pool import AsyncResult, Pool
from pathlib import Path
from typing import NamedTuple

# Run as a file: the package is beside this folder's name, and its `trace` is not the library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from simulation.scenario import run_seed  # noqa: E402

_UNITS = {"s": 1, "m": 60, "h": 3600}
_BATCH = 20
_TELL_SECONDS = 60.0


class _Report(NamedTuple):
    seed: int
    error: str
    """Empty when it went well."""
    counts: Counter[str]
    events: int
    simulated_seconds: float


def run_many(seeds: list[int]) -> list[_Report]:
    """Run seeds one after the other in this process."""
    reports = []
    for seed in seeds:
        try:
            result = run_seed(seed)
        except Exception as error:
            reports.append(_Report(seed, _told(error), Counter(), 0, 0.0))
        else:
            reports.append(
                _Report(seed, "", result.counts, result.events, result.simulated_seconds)
            )
        gc.collect()
    return reports


def _told(error: BaseException) -> str:
    lines = traceback.format_exception_only(error)
    if error.__cause__ is not None:
        lines += traceback.format_exception(error.__cause__)
    return "".join(lines)


def _seconds(text: str) -> float:
    return float(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else float(text)


def _batches(first: int, last: int | None, until: float | None) -> Iterator[list[int]]:
    for start in count(first, _BATCH):
        if last is not None and start > last:
            return
        if until is not None and time.monotonic() > until:
            return
        end = start + _BATCH if last is None else min(start + _BATCH, last + 1)
        yield list(range(start, end))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="1-200", metavar="A-B", help="or A, with --for")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--for", dest="duration", metavar="10m", help="until the time is up")
    parser.add_argument("--replay", type=int, metavar="SEED", help="one seed, every event")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return _replay(arguments.replay)
    first, _, last = arguments.seeds.partition("-")
    began = time.monotonic()
    until = began + _seconds(arguments.duration) if arguments.duration else None
    end = int(last) if last else (None if until else int(first))
    totals: Counter[str] = Counter()
    seeds = events = 0
    simulated = 0.0
    failed: list[_Report] = []
    gc.freeze()
    told = began
    # A process for each batch: threads that were killed stand where they stood, and hold their
    # world where no collection sees it. Later seeds would be slowed down by that.
    context = multiprocessing.get_context("fork")
    with context.Pool(arguments.jobs, maxtasksperchild=1) as pool:
        for reports in _results(pool, _batches(int(first), end, until), 2 * arguments.jobs):
            if time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                print(f"… {seeds} seeds after {told - began:.0f} s", flush=True)
            for report in reports:
                seeds += 1
                events += report.events
                simulated += report.simulated_seconds
                totals.update(report.counts)
                if report.error:
                    failed.append(report)
                    print(f"seed {report.seed} FAILED: {report.error}", flush=True)
                    print(f"  python tests/simulation/run.py --replay {report.seed}", flush=True)
    seconds = time.monotonic() - began
    print(
        f"{seeds} seeds, {len(failed)} failed, {seconds:.0f} s "
        f"({seconds * arguments.jobs / max(seeds, 1):.2f} s of one job each); "
        f"{simulated / 3600:.1f} simulated hours, {events} events in traces"
    )
    print("  ".join(f"{kind}={number}" for kind, number in sorted(totals.items())))
    return 1 if failed else 0


def _results(pool: Pool, batches: Iterator[list[int]], ahead: int) -> Iterator[list[_Report]]:
    """The reports of all batches, of which only a few are given out before they are needed."""
    waiting: deque[AsyncResult[list[_Report]]] = deque()
    for batch in batches:
        waiting.append(pool.apply_async(run_many, (batch,)))
        if len(waiting) >= ahead:
            yield waiting.popleft().get()
    while waiting:
        yield waiting.popleft().get()


def _replay(seed: int) -> int:
    try:
        result = run_seed(seed, write=print)
    except AssertionError as error:
        print(_told(error))
        return 1
    print(f"seed {seed} went well, trace {result.digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
