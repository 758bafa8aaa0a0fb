"""A reader of the product, which opens a container now and then and reads all of it."""

from __future__ import annotations

from hf_agent.hyperfile import Reader
from hf_agent.store.base import StoreError
from simulation.checker import Checker
from simulation.kernel import Kernel, Process
from simulation.loop import SimLoop
from simulation.store import Bucket, SimStore

__all__ = ["SimReader"]


class SimReader:
    """Tells the checker what it has read."""

    def __init__(self, kernel: Kernel, bucket: Bucket, checker: Checker) -> None:
        self._kernel = kernel
        self._bucket = bucket
        self._checker = checker
        self._later()

    def _later(self) -> None:
        self._kernel.after(self._kernel.rng.expovariate(0.1), self._again)

    def _again(self) -> None:
        self.look()
        self._later()

    def look(self) -> None:
        """Read one container, if there is any."""
        roots = sorted(key[: -len("/inode")] for key in self._bucket.objects if "/inode" in key)
        if roots:
            process = Process(self._kernel, "reader")
            root = self._kernel.rng.choice(roots)
            SimLoop.of(process).begin(lambda: self._read(process, root))

    async def _read(self, process: Process, root: str) -> None:
        try:
            reader = await Reader.open(SimStore(self._bucket, process), root)
            self._checker.read(root, await reader.read(0, reader.size))
        except StoreError as error:
            self._kernel.trace.event(self._kernel.now, "reader-failed", type(error).__name__)
        process.kill()
