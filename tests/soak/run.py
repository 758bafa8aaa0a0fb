"""Soaks the real agent: mixed load, faults and restarts, and nothing of it may grow.

    python tests/soak/run.py [--for 1h] [--lives 4] [--store directory|moto|minio] [--seed N]

Prints a table with the first, the last and the largest sample of each measure, and by how much it
rises over the second half of a life at the most. Exit status 1 when something grows, or when what
is stored in the end is not what was sent (see tests/torture). At least twenty minutes, a quarter of
an hour for each life, tell memory that grows from memory that warms up.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hf_agent.config.units import parse_duration
from soak.soaking import Soak, soak
from torture.stores import STORES


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Soak the real agent.")
    parser.add_argument("--for", dest="time", default="1h")
    parser.add_argument("--lives", type=int, default=4, help="of the process; restarted in between")
    parser.add_argument("--interval", default="5s", help="between two samples")
    parser.add_argument("--store", choices=STORES, default="directory")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--rate", type=float, default=0.05, help="share of requests that fail")
    parser.add_argument("--pause", type=float, default=2.0, help="stretches the clients' pauses")
    given = parser.parse_args()
    plan = Soak(
        seconds=parse_duration(given.time),
        lives=given.lives,
        interval=parse_duration(given.interval),
        store=given.store,
        seed=given.seed,
        rate=given.rate,
        pause=given.pause,
    )
    folder = Path(tempfile.mkdtemp(prefix="hf-soak-"))
    say(f"seed={plan.seed} store={plan.store} folder={folder}")
    report = soak(plan, folder / "run", say)
    for name, value in report.figures.items():
        print(f"{name:34} {value:>12}")
    print(f"\n{'':20} {'first':>9} {'last':>9} {'peak':>9} {'rise':>9}")
    for row in report.rows:
        figures = f"{row.first:9.1f} {row.last:9.1f} {row.peak:9.1f} {row.rise:9.2f}"
        print(f"{row.name:20} {figures}  {'GROWS' if row.grows else 'flat'}")
    sys.stdout.flush()
    shutil.rmtree(folder)  # it may take a while
    return int(any(row.grows for row in report.rows))


if __name__ == "__main__":
    sys.exit(main())
