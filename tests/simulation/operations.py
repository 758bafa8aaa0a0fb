"""The operator and the world: crashes, full disks, a store in trouble, whenever chance says so."""

from __future__ import annotations

import errno
from collections.abc import Callable

from simulation.agent import Node
from simulation.client import Client
from simulation.kernel import Kernel
from simulation.store import Bucket, Weather

__all__ = ["Operator"]


class Operator:
    """Does something to a node, or to the bucket, every few seconds until `heal`."""

    def __init__(
        self, kernel: Kernel, nodes: list[Node], bucket: Bucket, clients: list[Client], rate: float
    ) -> None:
        self._kernel = kernel
        self._nodes = nodes
        self._bucket = bucket
        self._clients = clients
        self._rate = rate
        self._over = False
        acts: list[tuple[float, Callable[[Node], None]]] = [
            (4.0, self._kill),
            (4.0, self._power),
            (4.0, self._crash_at_call),
            (1.5, Node.stop),
            (1.0, self._fill_disk),
            (0.7, self._fail_call),
            (1.0, self._slow_disk),
            (1.5, self._store_trouble),
            (0.4, self._long_trouble),
            (2.0, self._weather),
            (0.5, self._set_clock),
            (2.0, self._disconnect),
        ]
        self._acts = [act for _, act in acts]
        self._weights = [weight * kernel.rng.random() for weight, _ in acts]
        """Different ones for each seed: some runs are all power loss, some have none."""
        if kernel.rng.random() < 0.5:
            self._weather(nodes[0])
        self._next()

    def _next(self) -> None:
        rng = self._kernel.rng
        self._kernel.after(rng.expovariate(self._rate), self._act)

    def _act(self) -> None:
        if self._over:
            return
        rng = self._kernel.rng
        act = rng.choices(self._acts, self._weights)[0]
        act(rng.choice(self._nodes))
        self._next()

    def heal(self) -> None:
        """Undo all that is not well, and do nothing more."""
        self._over = True
        self._bucket.weather = Weather()
        for node in self._nodes:
            self._heal_disk(node)
            node.disk.calls_left = 0

    def _event(self, kind: str, *details: object) -> None:
        self._kernel.trace.event(self._kernel.now, kind, *details)

    # -- nodes -----------------------------------------------------------------------------

    def _kill(self, node: Node) -> None:
        node.kill()

    def _power(self, node: Node) -> None:
        node.lose_power([])

    def _crash_at_call(self, node: Node) -> None:
        rng = self._kernel.rng
        node.disk.calls_left = rng.choice((1, 2, 3, 5, 8, 13, 30))
        if rng.random() < 0.7:
            node.disk.on_last_call = lambda: node.lose_power([])
        else:
            node.disk.on_last_call = node.kill

    def _fill_disk(self, node: Node) -> None:
        disk, rng = node.disk, self._kernel.rng
        disk.full = True
        disk.writes_need_space = rng.random() < 0.5
        disk.capacity = sum(len(inode.data) for inode in disk.names.values())
        self._event("disk-full", node.name)
        self._kernel.after(rng.expovariate(0.2), lambda: self._heal_disk(node))

    def _fail_call(self, node: Node) -> None:
        name = self._kernel.rng.choice(("fdatasync", "fdatasync", "fsync", "fsync_dir", "pwritev"))
        node.disk.errors[name] = errno.EIO

    def _slow_disk(self, node: Node) -> None:
        rng = self._kernel.rng
        node.disk.slow = rng.choice((0.05, 0.3))
        node.disk.short_writes = rng.choice((0.0, 0.3))
        self._event("disk-slow", node.name)
        self._kernel.after(rng.expovariate(0.1), lambda: self._heal_disk(node))

    def _heal_disk(self, node: Node) -> None:
        disk = node.disk
        disk.capacity = 1 << 40
        disk.full = disk.writes_need_space = False
        disk.slow = disk.short_writes = 0.0
        disk.errors.clear()

    def _set_clock(self, node: Node) -> None:
        node.clock.offset += self._kernel.rng.choice((-3600.0, -2.0, 2.0, 3600.0))
        self._event("clock-jump", node.name)

    # -- the store -------------------------------------------------------------------------

    def _store_trouble(self, node: Node) -> None:
        self._trouble(self._kernel.rng.expovariate(0.2))

    def _long_trouble(self, node: Node) -> None:
        self._trouble(self._kernel.rng.uniform(600.0, 3 * 3600.0))

    def _trouble(self, seconds: float) -> None:
        weather = self._bucket.weather
        state = self._kernel.rng.choice(("away", "refused", "expired"))
        weather.state = state  # type: ignore[assignment]
        self._event(f"store-is-{state}", round(seconds))

        def end() -> None:
            weather.state = "well"

        # Nobody waits for hours without doing anything else: the clients go on.
        self._kernel.after(seconds, end)

    def _weather(self, node: Node) -> None:
        rng, weather = self._kernel.rng, self._bucket.weather
        high = rng.choice((0.05, 0.2, 0.4))
        for name in ("fail_before", "fail_after", "late", "twice", "slow"):
            setattr(weather, name, rng.random() * high if rng.random() < 0.6 else 0.0)
        self._event("store-weather", round(high, 2))

    # -- clients ---------------------------------------------------------------------------

    def _disconnect(self, node: Node) -> None:
        self._kernel.rng.choice(self._clients).disconnect()
