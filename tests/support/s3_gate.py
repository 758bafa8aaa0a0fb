"""A proxy in front of an S3 server: knows which keys are good, may drop conditions, hold writes."""

from __future__ import annotations

import http.client
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

__all__ = ["S3Gate"]

_CREDENTIAL = re.compile(r"Credential=([^/]+)/")
_CONDITIONS = ("if-match", "if-none-match")
_OWN_HEADERS = ("connection", "date", "server", "transfer-encoding")


class S3Gate:
    """Passes requests on, but for those whose access key is not in `accepted` (None: any is)."""

    def __init__(self, target: str) -> None:
        self.accepted: set[str] | None = None
        self.honours_conditions = True
        self.expired = threading.Semaphore(0)
        """Released once for every request that was answered with ExpiredToken."""
        self.held = threading.Semaphore(0)
        """Released once for every write that is held back."""
        self._may_write = threading.Event()
        self._may_write.set()
        gate, host = self, urlsplit(target).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                found = _CREDENTIAL.search(self.headers.get("Authorization", ""))
                if gate.accepted is not None and (not found or found[1] not in gate.accepted):
                    self.answer(400, [("Content-Type", "application/xml")], _EXPIRED)
                    gate.expired.release()
                    return
                if self.command in ("PUT", "POST", "DELETE") and not gate._may_write.is_set():
                    gate.held.release()
                    gate._may_write.wait()
                    self.close_connection = True
                    return  # it never got here
                headers = dict(self.headers.items())
                if not gate.honours_conditions:
                    headers = {k: v for k, v in headers.items() if k.lower() not in _CONDITIONS}
                connection = http.client.HTTPConnection(host, timeout=60)
                try:
                    connection.request(self.command, self.path, body or None, headers)
                    reply = connection.getresponse()
                    self.answer(reply.status, reply.getheaders(), reply.read())
                finally:
                    connection.close()

            def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response(status)
                length = str(len(body))
                for name, value in headers:
                    if name.lower() == "content-length":
                        length = value  # of an answer to HEAD, which has no body
                    elif name.lower() not in _OWN_HEADERS:
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, format: str, *args: Any) -> None:
                """Hundreds of lines per test help nobody."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """The agent was killed, or its request was given up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def hold_writes(self) -> None:
        """Leave every write that comes without an answer, and undone."""
        self._may_write.clear()

    def release_writes(self) -> None:
        """Let what comes from now on through; what was held back is dropped."""
        self._may_write.set()

    def close(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


_EXPIRED = (
    b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
)
