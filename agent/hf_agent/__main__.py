"""The program: `hf-agent`, or `python -m hf_agent`. It is ready to be stopped, then loads the rest.

To process 1 of a container the kernel gives no signal that it has no handler for. Where any other
process would end, that one would go on: a SIGTERM that came while modules are loaded would be lost,
and the container be killed when its time to stop is over.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

__all__ = ["main"]


def main() -> int:
    """Run the command line; returns the exit status."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)
    from hf_agent.cli.main import main as command

    return command()


def _end(number: int, frame: FrameType | None) -> None:
    # As the kernel ends any other process; an agent that has begun has handlers of its own.
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
