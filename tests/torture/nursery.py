"""Starts agents fast: a process that has everything loaded, and forks one agent for each order.

    python nursery.py

Loading the agent's libraries takes longer than most lives in a torture. An order is a line of JSON
on standard input (see `Order`); the answers are `started PID` and, when that agent has ended,
`ended STATUS` (negative: the signal). One agent at a time. The child is a process like any other
agent, and nothing of the driver's is in it; it dies with the nursery.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

__all__ = ["Order"]

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Order:
    """One agent to be started."""

    config: str
    """Path of its configuration."""
    log: str
    """File that standard output and error are appended to."""
    env: dict[str, str] = field(default_factory=dict)
    """Set in addition to the nursery's own."""
    trouble: dict[str, Any] = field(default_factory=dict)
    """What goes wrong inside of it: see `trouble.arrange`."""

    def line(self) -> str:
        """As it is sent."""
        return json.dumps(asdict(self)) + "\n"


def main() -> None:
    """Serve orders until standard input ends."""
    import hf_agent.service.main
    import hf_agent.store.s3  # noqa: F401 - loaded here, so that the children need not

    gc.collect()
    gc.freeze()  # the children would otherwise copy every page that the collector touches
    print("ready", flush=True)
    ended: int | None = None
    # Not by iterating: what was read ahead would be the child's as well.
    while line := sys.stdin.readline():
        if ended is not None:
            os.waitpid(ended, 0)
        order = Order(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            _run(order)
        print(f"started {pid}", flush=True)
        print(f"ended {_end_of(pid)}", flush=True)
        ended = pid


def _end_of(pid: int) -> int:
    """Wait for it; its status. Not reaped: the driver may yet ask for it by this number."""
    info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert info is not None
    return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status


def _run(order: Order) -> None:
    """Be the agent of `order`; does not return."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.update(order.env)
        status = _agent(order)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _agent(order: Order) -> int:
    from hf_agent.config import load
    from hf_agent.logs import setup
    from hf_agent.service.main import run_agent
    from torture.trouble import arrange

    config = load(order.config)
    setup(config.log.level, config.log.format)
    arrange(**order.trouble)
    return run_agent(config, config_path=Path(order.config))


if __name__ == "__main__":
    main()
