"""A client for threads, on plain blocking I/O.

Whoever calls the client moves its bytes: `append` sends when nothing is under way or a frame is
full, and whoever waits also receives. So one append that is waited for costs no switch between
threads. What a caller leaves behind, a thread of the client's own moves: it looks every few
milliseconds while something is under way, and sleeps otherwise.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from hf_agent.client.errors import ClientError, ConnectionLost
from hf_agent.client.options import ClientOptions
from hf_agent.client.parts import AppendPart, joined
from hf_agent.client.reconnection import Reconnection
from hf_agent.client.session import ConnectionEnded, Request, Session
from hf_agent.client.unreachable import NO_GREETING, unreachable
from hf_agent.ingest.append_messages import Part

__all__ = ["Client"]

_TICK = 0.005
_QUIET_TICKS = 200
_SLICE = 1.0
"""Longest wait for the agent at one time, in seconds: then an abort elsewhere is noticed."""


class Client:
    """Connects to the agent's socket at `path`, which speaks protocol `append`.

    With a `producer` name what is appended is stored exactly once, whatever is lost or restarted
    on the way; without, at least once. A name belongs to one client at a time. May be used by
    several threads. Use it as a context manager, or `close` it.

    Raises `ConnectionLost` when there is no agent.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        producer: str | None = None,
        *,
        epoch: int = 0,
        options: ClientOptions | None = None,
        reconnect_timeout: float | None = None,
    ) -> None:
        """`reconnect_timeout` is a short way to set that option alone.

        With a higher `epoch` than the producer had before, ids begin anew and whatever is still
        sent with a lower one is shut out. Raises `ValueError` for one without a producer.
        """
        self._path = os.fspath(path)
        self._options = options or ClientOptions()
        if reconnect_timeout is not None:
            self._options = replace(self._options, reconnect_timeout=reconnect_timeout)
        self._clock = self._options.clock
        self._session = Session(producer, self._options, epoch)
        self._outbox = self._session.outbox
        self._reconnection = Reconnection(self._options)
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._begun = 0
        self._greeted_before = 0.0
        self._polled = 0
        self._out: list[bytes | memoryview] = []
        self._write_failed = False
        self._failure: ClientError | None = None
        self._closed = False
        self._stopped = False
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._driving = False
        self._parked = False
        with self._lock:
            self._connect_first()
        self._thread = threading.Thread(
            target=self._run, name=f"hf-agent client {self._path}", daemon=True
        )
        self._thread.start()

    # -- the interface ---------------------------------------------------------------------

    def append(
        self,
        stream: str,
        data: bytes | bytearray | memoryview,
        ack: str = "wal",
        *,
        expect_position: int | None = None,
    ) -> int:
        """Append `data` to `stream`; returns the append's id without waiting for the answer.

        Waits only while too much is unacknowledged. `ack`: "wal", or "store" to have `wait` wait
        until the store has it. With `expect_position` (bytes) it is refused (`PositionMismatch`)
        unless the stream is there. Raises `AppendRefused`, also for an earlier append that nobody
        was told about yet (then `data` was not taken), `ConnectionLost`, `AgentRefused`.
        """
        if type(data) is not bytes:
            data = bytes(data)
        with self._lock:
            outbox = self._outbox
            if self._stopped or outbox.unreported:
                self._raise_trouble()
            if expect_position is not None:
                return self._append_alone(stream, data, ack, expect_position, [])
            id = outbox.append(stream, data, ack)
            while not id:
                self._until(lambda: outbox.has_room(len(data)), None)
                id = outbox.append(stream, data, ack)
            self._appended()
            return id

    def append_together(self, parts: Iterable[AppendPart], ack: str = "wal") -> int:
        """Append to several streams at once: all parts become durable together, or none does.

        A part is `(stream, data)` or `(stream, data, expect_position)`; no stream may come twice.
        Returns and raises as `append`; `ValueError` for parts that are none.
        """
        multi, data = joined(parts)
        with self._lock:
            if self._stopped or self._outbox.unreported:
                self._raise_trouble()
            return self._append_alone("", data, ack, None, multi)

    def _append_alone(
        self, stream: str, data: bytes, ack: str, expect: int | None, multi: list[Part]
    ) -> int:
        outbox = self._outbox
        id = outbox.append_alone(stream, data, ack, expect=expect, multi=multi)
        while not id:
            self._until(lambda: outbox.has_room(len(data)), None)
            id = outbox.append_alone(stream, data, ack, expect=expect, multi=multi)
        self._appended()
        return id

    def _appended(self) -> None:
        outbox = self._outbox
        if outbox.begun != self._begun:
            self._begun = outbox.begun
            if not outbox.is_in_flight:
                self._pump()
            elif outbox.has_much_unsent:
                self._pump(only_closed=True)
        if self._parked:
            self._idle.notify()

    def wait(self, id: int, timeout: float | None = None) -> None:
        """Return when append `id` has the acknowledgement that it asked for.

        Raises `AppendRefused`, `ConnectionLost`, `AgentRefused`; `TimeoutError` after `timeout`
        seconds.
        """
        with self._lock:
            self._until(lambda: self._outbox.is_answered(id), timeout)
            refusal = self._outbox.refusal_of(id)
        if refusal is not None:
            raise refusal

    def wait_acknowledged(self, timeout: float | None = None) -> None:
        """Return when every append so far has the acknowledgement that it asked for.

        Raises as `wait`; `AppendRefused` for the first refusal that nobody was told about yet.
        """
        with self._lock:
            self._until(lambda: self._outbox.is_done, timeout)
            refusal = self._outbox.next_refusal()
        if refusal is not None:
            raise refusal

    def flush(self, stream: str | None = None, timeout: float | None = None) -> None:
        """Return when the store has everything appended so far to `stream` (None: to any).

        Raises `RequestRefused` for a stream that the agent does not know, and as `wait`.
        """
        with self._lock:
            self._request(self._session.flush(stream), timeout)

    def status(self, timeout: float | None = None) -> dict[str, Any]:
        """What the agent says of itself."""
        with self._lock:
            return self._request(self._session.status(), timeout).result

    def close(self, timeout: float | None = None) -> None:
        """Wait until every append is acknowledged, then close. Idempotent. Raises as `wait`."""
        try:
            if not self._closed:
                self.wait_acknowledged(timeout)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close now, whatever is under way. Idempotent."""
        with self._lock:
            self._closed = self._stopped = True
            self._disconnect()
            self._idle.notify_all()
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            if isinstance(error, Exception) and not isinstance(error, ClientError):
                # What was appended before something else went wrong is still to be delivered.
                self.close()
        except ClientError:
            # The error that brought us here is the one to be told.
            pass
        finally:
            self.abort()

    @property
    def unacknowledged(self) -> int:
        """Appends that the agent has not acknowledged yet."""
        return self._outbox.unacknowledged_records

    # -- waiting ---------------------------------------------------------------------------

    def _request(self, request: Request, timeout: float | None) -> Request:
        try:
            self._until(lambda: request.done, timeout)
        finally:
            self._session.forget(request)
        if request.error is not None:
            raise request.error
        return request

    def _until(self, done: Callable[[], bool], timeout: float | None) -> None:
        """Move bytes, or let another thread do it, until `done`. The lock is held."""
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        while not done():
            if self._stopped:
                self._raise_trouble()
            left = None if deadline is None else deadline - self._clock.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"no answer from the agent in time path={self._path}")
            if self._driving:
                self._changed.wait(left)
            else:
                self._drive(left)

    def _raise_trouble(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise ClientError(f"client is closed path={self._path}")
        refusal = self._outbox.next_refusal()
        if refusal is not None:
            raise refusal

    # -- moving bytes; the lock is held, but while waiting ---------------------------------

    def _drive(self, timeout: float | None) -> None:
        """One step: send, wait at most `timeout` seconds for the agent, receive."""
        self._driving = True
        try:
            if self._socket is None:
                self._connect_if_due()
            self._pump()
            if self._socket is None:
                pause = self._reconnection.next_attempt - self._clock.monotonic()
                self._idle_wait(pause if timeout is None else min(pause, timeout))
            elif timeout is None and not self._out and self._session.is_ready:
                # Nothing else to wait for: the socket's own wait is the shortest way to the answer.
                self._receive()
            elif self._wait_for_agent(timeout):
                self._receive()
        finally:
            self._driving = False
            self._changed.notify_all()

    def _idle_wait(self, seconds: float) -> None:
        if seconds > 0:
            self._changed.wait(seconds)

    def _wait_for_agent(self, timeout: float | None) -> bool:
        assert self._socket is not None
        if not self._session.is_ready:
            left = self._greeted_before - self._clock.monotonic()
            if left <= 0:
                self._lose(NO_GREETING)
                return False
            timeout = left if timeout is None else min(left, timeout)
        events = select.POLLIN | (select.POLLOUT if self._out and not self._write_failed else 0)
        if events != self._polled:
            self._poll.modify(self._socket, events)
            self._polled = events
        seconds = _SLICE if timeout is None else min(_SLICE, timeout)
        self._lock.release()
        try:
            ready = self._poll.poll(seconds * 1000)
        finally:
            self._lock.acquire()
        return bool(ready) and ready[0][1] != select.POLLOUT

    def _pump(self, *, only_closed: bool = False) -> None:
        """Send what can be sent without waiting."""
        while self._socket is not None and not self._write_failed:
            if not self._out:
                self._out = [*self._session.next_output(only_closed=only_closed)]
                if not self._out:
                    return
            out = self._out
            try:
                # Not through the socket object, which would wait.
                sent = os.writev(self._socket.fileno(), out)
            except BlockingIOError:
                return
            except OSError:
                # The agent may have said why before it closed: receive first.
                self._write_failed = True
                return
            while out and sent >= len(out[0]):
                sent -= len(out.pop(0))
            if sent:
                out[0] = memoryview(out[0])[sent:]

    def _receive(self) -> None:
        """Wait for bytes, at most a slice, and take them."""
        connection = self._socket
        assert connection is not None
        room = self._session.room()
        failure = ""
        self._lock.release()
        try:
            nbytes = connection.recv_into(room)
        except TimeoutError:
            return
        except OSError as error:
            failure = str(error)
        finally:
            self._lock.acquire()
        if self._socket is not connection:
            return  # closed by another thread
        if failure or not nbytes:
            self._lose(failure or "agent closed the connection")
            return
        was_ready = self._session.is_ready
        try:
            self._session.received(nbytes)
        except ConnectionEnded as error:
            self._lose(str(error))
        except ClientError as error:
            self._fail(error)
        else:
            if self._session.is_ready and not was_ready:
                self._reconnection.connected()
            self._pump()

    # -- connecting ------------------------------------------------------------------------

    def _connect_first(self) -> None:
        self._connect()
        while self._failure is None and self._socket is not None and not self._session.is_ready:
            if self._wait_for_agent(None):
                self._receive()
        if self._failure is not None:
            raise self._failure
        if self._socket is None:
            raise unreachable(self._path, self._session.end_reason)

    def _connect_if_due(self) -> None:
        if not self._stopped:
            if self._reconnection.is_hopeless:
                self._fail(
                    ConnectionLost(
                        f"no agent for too long: {self._session.end_reason} path={self._path} "
                        f"seconds={self._options.reconnect_timeout}"
                    )
                )
            elif self._clock.monotonic() >= self._reconnection.next_attempt:
                self._connect()

    def _connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._options.connect_timeout)
            connection.connect(self._path)
            connection.settimeout(_SLICE)
        except OSError as error:
            connection.close()
            self._lose((error.strerror or str(error)).lower())
            return
        self._socket = connection
        self._poll.register(connection, select.POLLIN)
        self._polled = select.POLLIN
        self._write_failed = False
        self._out = [self._session.begin()]
        self._greeted_before = self._clock.monotonic() + self._options.connect_timeout
        self._pump()

    def _lose(self, reason: str) -> None:
        self._session.end_reason = reason
        self._reconnection.lost(progress=self._session.progress)
        self._session.progress = False
        self._disconnect()
        self._session.lost()

    def _fail(self, error: ClientError) -> None:
        self._failure = error
        self._stopped = True
        self._disconnect()
        self._changed.notify_all()

    def _disconnect(self) -> None:
        self._out = []
        if self._socket is not None:
            self._poll.unregister(self._socket)
            self._socket.close()
            self._socket = None

    # -- the client's own thread -----------------------------------------------------------

    def _run(self) -> None:
        quiet = 0
        with self._lock:
            while not self._stopped:
                quiet = quiet + 1 if self._session.is_idle else 0
                if quiet > _QUIET_TICKS:
                    self._parked = True
                    self._idle.wait()
                    self._parked = False
                    quiet = 0
                self._idle.wait(_TICK)
                if not self._driving and not self._session.is_idle and not self._stopped:
                    self._drive(0)
