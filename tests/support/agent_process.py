"""A real agent process for tests: started until it says that it is ready, killed, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

READY_TIMEOUT = 60.0


class AgentProcess:
    """One agent below `folder`, started and killed as often as a test likes."""

    def __init__(
        self,
        folder: Path,
        *,
        store_url: str | None = None,
        s3: Mapping[str, Any] | None = None,
        wal: str = "",
        flush: str = 'interval = "200ms"',
        env: Mapping[str, str] | None = None,
        lines_stream: str = "lines",
        lines: str = "",
        forward: str = "",
        max_record_bytes: str = "8MiB",
        syslog: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
        http: str = "",
    ) -> None:
        """`syslog`: keys of a `[[listen]]` table for each of its sockets, by the file's name.

        `http`: where it serves HTTP, if not on a Unix socket (which `get` asks).
        `launcher`: a command that runs the one behind it, and is what `pid` and signals go to.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.append_socket = folder / "append.sock"
        self.lines_socket = folder / "lines.sock"
        self.forward_socket = folder / "forward.sock"
        self.http_socket = folder / "http.sock"
        self.http = http or str(self.http_socket)
        self.wal_dir = folder / "wal"
        self.store_url = store_url or f"file://{folder}/store"
        self.config = folder / "agent.toml"
        self.log = folder / "agent.log"
        self.env = dict(env or {})
        self.launcher = tuple(launcher)
        self.s3: dict[str, Any] = dict(s3 or {})
        s3_lines = "\n".join(f'{key} = "{value}"' for key, value in self.s3.items())
        self.process: subprocess.Popen[bytes] | None = None
        more = "".join(
            f'''[[listen]]
path = "{folder / name}"
protocol = "syslog"
{keys}
'''
            for name, keys in (syslog or {}).items()
        )
        self.config.write_text(
            f"""
[agent]
node = "node-1"
data_dir = "{folder}"
[[listen]]
path = "{self.append_socket}"
protocol = "append"
max_record_bytes = "{max_record_bytes}"
[[listen]]
path = "{self.lines_socket}"
protocol = "lines"
max_record_bytes = "{max_record_bytes}"
stream = "{lines_stream}"
[listen.lines]
{lines}
[[listen]]
path = "{self.forward_socket}"
protocol = "forward"
max_record_bytes = "{max_record_bytes}"
[listen.forward]
{forward}
{more}
[wal]
{wal}
[flush]
{flush}
[store]
url = "{self.store_url}"
[store.s3]
{s3_lines}
[http]
listen = "{self.http}"
[log]
level = "info"
format = "json"
"""
        )

    def edit_config(self, old: str, new: str) -> None:
        """Write the configuration anew with one thing replaced; it stands there."""
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new, 1))

    def start(self, *, wait: bool = True) -> AgentProcess:
        """Start the process; with `wait`, return when it says that it takes appends."""
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.folder / "notify.sock"
        path.unlink(missing_ok=True)
        notify.bind(str(path))
        notify.settimeout(READY_TIMEOUT)
        with notify, self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.launcher, sys.executable, "-m", "hf_agent", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.env, "NOTIFY_SOCKET": str(path)},
                cwd=self.folder,
            )
            if wait:
                while b"READY=1" not in self._receive(notify):
                    pass
        return self

    def _receive(self, notify: socket.socket) -> bytes:
        notify.settimeout(0.2)
        for _ in range(int(READY_TIMEOUT / 0.2)):
            try:
                return notify.recv(4096)
            except TimeoutError:
                if self.process is not None and self.process.poll() is not None:
                    break
        raise AssertionError(f"the agent did not become ready:\n{self.log_text()}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for the process to end by itself; its exit status."""
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self) -> int:
        """SIGTERM and wait; the exit status."""
        self.send(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """Make sure that nothing is left running."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def log_text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def get(self, path: str) -> tuple[int, str]:
        """One HTTP request over the agent's own Unix socket: status and body."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            connection.connect(str(self.http_socket))
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n".encode()
            )
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def wal_files(self) -> list[Path]:
        return sorted(self.wal_dir.glob("*.wal"))
