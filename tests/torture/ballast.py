"""A small file system in memory that is filled up and emptied again. Mounting it takes root."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

__all__ = ["Ballast", "can_mount"]


class Ballast:
    """A tmpfs of `size` bytes at `folder`, and a file in it that takes up its room."""

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir()
        self._folder = folder
        _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
        self._file = folder / "ballast"

    def change(self, rng: random.Random) -> None:
        """Fill it up but for a little, or make room."""
        if self._file.exists():
            self.remove()
        elif rng.random() < 0.5:
            left = rng.choice((0, 1 << 16, 1 << 20))
            try:
                with self._file.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 16))
            except OSError:
                pass  # full
            with self._file.open("r+b") as file:
                size = file.seek(0, 2)
                file.truncate(max(0, size - left))

    def remove(self) -> None:
        """Make room."""
        self._file.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Give it back."""
        _run("umount", "-l", str(self._folder))


def can_mount(folder: Path) -> str:
    """Why a tmpfs cannot be mounted at `folder`; empty when it can."""
    try:
        ballast = Ballast(folder / "tried", 1 << 20)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"mounting a tmpfs takes root: {error}"
    ballast.unmount()
    return ""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
