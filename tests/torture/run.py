"""Tortures the real agent for as long as you like, and says what came of it.

    python tests/torture/run.py [--kills 500] [--store directory|moto|minio] [--seed N] [--for 30m]

Clients of three protocols load an agent that is killed, stopped and started again and again, with
disks, limits and clocks in trouble; in the end every stored byte is held against what was sent and
acknowledged. Exit status 1 and the first thing that is wrong, or a table. `--folder` (default: a
new one below TMPDIR) is kept when something was wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hf_agent.config.units import parse_duration
from torture.lives import TROUBLES
from torture.stores import STORES
from torture.torturer import Plan, torture


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Torture the real agent.")
    parser.add_argument("--kills", type=int, default=500, help="end after so many SIGKILLs")
    parser.add_argument("--for", dest="time", default="0", help="end after this time, as 30m")
    parser.add_argument("--store", choices=STORES, default="directory")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--rate", type=float, default=0.05, help="share of requests that fail")
    parser.add_argument("--trouble", choices=TROUBLES, action="append", help="only these")
    parser.add_argument("--tmpfs-mib", type=int, default=0, help="WAL on a tmpfs that fills up")
    parser.add_argument("--pause", type=float, default=1.0, help="stretches the clients' pauses")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    given = arguments()
    plan = Plan(
        store=given.store,
        kills=given.kills,
        seconds=parse_duration(given.time),
        seed=given.seed,
        rate=given.rate,
        troubles=tuple(given.trouble or TROUBLES),
        tmpfs=given.tmpfs_mib << 20,
        pause=given.pause,
    )
    parent = given.folder or Path(tempfile.mkdtemp(prefix="hf-torture-"))
    say(f"seed={plan.seed} store={plan.store} folder={parent}")
    try:
        figures = torture(plan, parent / "run", say)
    except Exception:
        traceback.print_exc()
        say(f"FAILED seed={plan.seed}; kept: {parent}")
        return 1
    shutil.rmtree(parent / "run")
    if given.folder is None:
        parent.rmdir()
    if given.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            if isinstance(value, dict):
                print(f"{name}:")
                for each, count in value.items():
                    print(f"    {each:44} {count:>12}")
            else:
                print(f"{name:48} {value:>12}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
