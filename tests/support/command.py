"""The command `hf-agent` as a process of its own, also on a terminal, and interrupted."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from typing import IO, Any

__all__ = ["command_line", "interrupt", "on_terminal", "start"]

_SCRIPT = (
    # Tests that run in the background of a shell ignore interrupts, and so does all they start.
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('hf_agent', run_name='__main__')"
)


def command_line(*args: str) -> list[str]:
    """What to run for `hf-agent` with these arguments."""
    return [sys.executable, "-c", _SCRIPT, *args]


def start(*args: str, **options: Any) -> subprocess.Popen[bytes]:
    """The command, with pipes for all that `options` does not name."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    settings: Any = pipes | options
    process: subprocess.Popen[bytes] = subprocess.Popen(command_line(*args), **settings)
    return process


def interrupt(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """One SIGINT, as Ctrl-C sends it: exit status, and what stands on standard error."""
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    status = process.wait(30)
    said = process.stderr.read()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return status, said


def on_terminal(
    *args: str, stdout: IO[bytes] | int = subprocess.DEVNULL, columns: int = 100
) -> tuple[int, str]:
    """Exit status of the command, and all that it wrote to the terminal on its standard error."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    process = subprocess.Popen(
        command_line(*args), stdin=subprocess.DEVNULL, stdout=stdout, stderr=theirs, env=env
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the last one that had it open is gone
            break
        if not data:
            break
        written += data
    os.close(ours)
    return process.wait(60), written.decode()
