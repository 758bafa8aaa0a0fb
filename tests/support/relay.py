"""A relay in front of an HTTP server that can be away, silent, slow or refusing, at a word."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

_CHUNK = 64 << 10


class Relay:
    """Passes connections to `target` (an http:// URL) in one of the modes.

    `pass`: as they are · `away`: resets every connection · `silent`: takes requests and says
    nothing · `slow`: waits before every piece · a number: answers each connection's first request
    with that status. A change of mode ends the connections there are.
    """

    def __init__(self, target: str, mode: str = "pass") -> None:
        parts = urlsplit(target)
        assert parts.hostname and parts.port
        self._target = (parts.hostname, parts.port)
        self._mode = mode
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.refused = threading.Semaphore(0)
        """Released once for every connection that was not passed on."""
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: str) -> None:
        """Go over to another mode."""
        with self._lock:
            self._mode = mode
            self._changed.set()
            self._changed = threading.Event()
            for connection in self._open:
                _shut(connection)

    def close(self) -> None:
        """End everything."""
        _shut(self._listener)
        self._listener.close()
        self.set("away")

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            mode, changed = self._mode, self._changed
            self._open.add(connection)
        try:
            with connection:
                if mode not in ("pass", "slow"):
                    self.refused.release()
                if mode in ("pass", "slow"):
                    self._pass_on(connection, changed, 0.1 if mode == "slow" else 0.0)
                elif mode == "silent":
                    changed.wait()
                elif mode != "away":
                    connection.recv(_CHUNK)
                    body = b"<Error><Code>AccessDenied</Code></Error>" if mode == "403" else b""
                    connection.sendall(
                        b"HTTP/1.1 %s Refused\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                        % (mode.encode(), len(body), body)
                    )
        except OSError:
            # The agent was killed, or the mode has changed.
            return
        finally:
            with self._lock:
                self._open.discard(connection)

    def _pass_on(self, near: socket.socket, changed: threading.Event, delay: float) -> None:
        with socket.create_connection(self._target) as far:
            with self._lock:
                self._open.add(far)
            try:
                back = threading.Thread(target=_pump, args=(far, near, changed, delay), daemon=True)
                back.start()
                _pump(near, far, changed, delay)
                back.join()
            finally:
                with self._lock:
                    self._open.discard(far)


def _pump(
    source: socket.socket, target: socket.socket, changed: threading.Event, delay: float
) -> None:
    try:
        while data := source.recv(_CHUNK):
            if delay and changed.wait(delay):
                break
            target.sendall(data)
    except OSError:
        pass  # either end may go at any time
    _shut(target)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is gone already
