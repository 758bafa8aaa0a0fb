"""Word to the service manager, over the datagram socket in NOTIFY_SOCKET (see sd_notify(3)).

Without that variable everything here does nothing. A message that cannot be delivered is
dropped: the agent must not wait for, or fail because of, its supervisor.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

__all__ = ["Notifier"]


class Notifier:
    """Tells the service manager how the process is doing. Never blocks, never raises."""

    def __init__(self, address: str = "", *, watchdog_usec: int = 0) -> None:
        self._socket: socket.socket | None = None
        self.watchdog_interval = watchdog_usec / 2_000_000
        """Seconds between two `watchdog` calls, half of what is allowed; 0: none is asked for."""
        if not address.startswith(("/", "@")):
            return
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Notifier:
        """As NOTIFY_SOCKET and WATCHDOG_USEC (when WATCHDOG_PID is this process, or unset) say."""
        env = os.environ if environment is None else environment
        ours = env.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        usec = env.get("WATCHDOG_USEC", "") if ours else ""
        return cls(env.get("NOTIFY_SOCKET", ""), watchdog_usec=int(usec) if usec.isdigit() else 0)

    def ready(self, status: str = "") -> None:
        """The start, or a reload, is complete."""
        self._send("READY=1", status)

    def reloading(self, monotonic: float, status: str = "") -> None:
        """A reload begins; `ready` ends it. `monotonic` is CLOCK_MONOTONIC now, in seconds."""
        # The manager compares this with its own record of when it asked for the reload.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(monotonic * 1_000_000)}", status)

    def stopping(self, status: str = "") -> None:
        """The stop begins."""
        self._send("STOPPING=1", status)

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("", text)

    def watchdog(self) -> None:
        """The process is alive."""
        if self.watchdog_interval:
            self._send("WATCHDOG=1", "")

    def close(self) -> None:
        """Give the socket back. Idempotent; later messages are dropped."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str, status: str) -> None:
        if self._socket is None:
            return
        lines = [message] if message else []
        if status:
            lines.append("STATUS=" + " ".join(status.splitlines()))
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            # Nobody to tell it to, or no room: see above.
            pass
