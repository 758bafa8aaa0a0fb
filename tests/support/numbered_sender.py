"""A sender in a process of its own, which says the number of each record that is safe with it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence


class NumberedSender:
    """Runs a command that prints numbers, a line each, as it goes on.

    `said` has them in the order in which they came; of the last line of one that is killed only
    what is whole.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.said: list[int] = []
        self._changed = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):
                with self._changed:
                    self.said.append(int(line))
                    self._changed.notify_all()
        self._process.stdout.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        """Return when it has said so many numbers."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self.said) >= count, timeout=120)
            assert len(self.said) >= count, f"{len(self.said)} of {count}, ended: {self._ended}"

    def finish(self, *, kill: bool = False) -> int:
        """Wait for its end, or bring it about: the exit status. Idempotent."""
        if kill:
            self._process.kill()
        status = self._process.wait(120)
        self._thread.join(120)
        return status
