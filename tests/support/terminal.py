"""The command on a terminal of its own: what it draws is awaited, keys and sizes change it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from support.command import command_line

__all__ = ["Terminal"]

_PATIENCE = 60.0
_HOME = "\x1b[H"
_COMMANDS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A context manager around one command."""

    def __init__(self, *args: str, columns: int = 120, rows: int = 30, term: str = "xterm") -> None:
        self._ours, theirs = pty.openpty()
        self.resize(columns, rows)
        env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command_line(*args),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**env, "TERM": term},
            start_new_session=True,
            # Its controlling terminal: so Ctrl-C and changes of the size become signals.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one call, no lock
        )
        os.close(theirs)
        self.written = ""

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    @property
    def screen(self) -> str:
        """The text of the last picture that was drawn."""
        return _COMMANDS.sub("", self.written.rsplit(_HOME, 1)[-1]).replace("\r", "")

    def wait_for(self, seen: Callable[[str], bool] | str) -> str:
        """Read until the screen has this text, or is so; what it shows then."""
        deadline = time.monotonic() + _PATIENCE
        shows = (lambda screen: seen in screen) if isinstance(seen, str) else seen
        while not shows(self.screen):
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._ours], [], [], left)[0] or not self._read():
                raise AssertionError(f"never shown: {seen!r}, but:\n{self.screen}")
        return self.screen

    def end(self) -> int:
        """Read to the end; the exit status."""
        while select.select([self._ours], [], [], _PATIENCE)[0] and self._read():
            pass
        return self.process.wait(_PATIENCE)

    def _read(self) -> bool:
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the last one that had it open is gone
            return False
        self.written += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
