"""A client for asyncio. It runs on the event loop that `connect` was called on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from hf_agent.client.errors import ClientError, ConnectionLost
from hf_agent.client.link import Link
from hf_agent.client.options import ClientOptions
from hf_agent.client.parts import AppendPart, joined
from hf_agent.client.reconnection import Reconnection
from hf_agent.client.session import ConnectionEnded, Request, Session
from hf_agent.client.unreachable import NO_GREETING, unreachable
from hf_agent.ingest.append_messages import Part

__all__ = ["AsyncClient"]


class AsyncClient:
    """Connects to the agent's socket at `path`, which speaks protocol `append`.

    With a `producer` name what is appended is stored exactly once, whatever is lost or restarted
    on the way; without, at least once. A name belongs to one client at a time. Use it as an
    asynchronous context manager, or call `connect` and `close`.
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
        self._session = Session(producer, self._options, epoch)
        self._outbox = self._session.outbox
        self._reconnection = Reconnection(self._options)
        self._link: Link | None = None
        self._begun = 0
        self._scheduled = False
        self._failure: ClientError | None = None
        self._closed = False
        self._stopped = False
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._reconnecting: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    # -- the interface ---------------------------------------------------------------------

    async def connect(self) -> Self:
        """Connect for the first time: one attempt. Raises `ConnectionLost`, `AgentRefused`."""
        self._loop = asyncio.get_running_loop()
        await self._connect()
        if self._link is None:
            await self.abort()
        if self._failure is not None:
            raise self._failure
        if self._link is None:
            raise unreachable(self._path, self._session.end_reason)
        return self

    async def append(
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
        outbox = self._outbox
        if self._stopped or outbox.unreported:
            self._raise_trouble()
        if expect_position is not None:
            return await self._append_alone(stream, data, ack, expect_position, [])
        id = outbox.append(stream, data, ack)
        while not id:
            self._pump()
            await self._until(lambda: outbox.has_room(len(data)))
            id = outbox.append(stream, data, ack)
        self._appended()
        return id

    async def append_together(self, parts: Iterable[AppendPart], ack: str = "wal") -> int:
        """Append to several streams at once: all parts become durable together, or none does.

        A part is `(stream, data)` or `(stream, data, expect_position)`; no stream may come twice.
        Returns and raises as `append`; `ValueError` for parts that are none.
        """
        multi, data = joined(parts)
        if self._stopped or self._outbox.unreported:
            self._raise_trouble()
        return await self._append_alone("", data, ack, None, multi)

    async def _append_alone(
        self, stream: str, data: bytes, ack: str, expect: int | None, multi: list[Part]
    ) -> int:
        outbox = self._outbox
        id = outbox.append_alone(stream, data, ack, expect=expect, multi=multi)
        while not id:
            self._pump()
            await self._until(lambda: outbox.has_room(len(data)))
            id = outbox.append_alone(stream, data, ack, expect=expect, multi=multi)
        self._appended()
        return id

    def _appended(self) -> None:
        outbox = self._outbox
        if outbox.begun != self._begun:
            self._begun = outbox.begun
            if outbox.has_much_unsent:
                self._pump(only_closed=True)
            if not self._scheduled:
                # What follows in this turn of the loop shares a frame.
                self._scheduled = True
                self._loop.call_soon(self._pump_scheduled)

    async def wait(self, id: int) -> None:
        """Return when append `id` has the acknowledgement that it asked for.

        Raises `AppendRefused`, `ConnectionLost`, `AgentRefused`.
        """
        outbox = self._outbox
        self._pump()
        await self._until(lambda: outbox.is_answered(id))
        refusal = outbox.refusal_of(id)
        if refusal is not None:
            raise refusal

    async def wait_acknowledged(self) -> None:
        """Return when every append so far has the acknowledgement that it asked for.

        Raises as `wait`; `AppendRefused` for the first refusal that nobody was told about yet.
        """
        outbox = self._outbox
        self._pump()
        await self._until(lambda: outbox.is_done)
        refusal = outbox.next_refusal()
        if refusal is not None:
            raise refusal

    async def flush(self, stream: str | None = None) -> None:
        """Return when the store has everything appended so far to `stream` (None: to any).

        Raises `RequestRefused` for a stream that the agent does not know, and as `wait`.
        """
        await self._request(self._session.flush(stream))

    async def status(self) -> dict[str, Any]:
        """What the agent says of itself."""
        return (await self._request(self._session.status())).result

    async def close(self) -> None:
        """Wait until every append is acknowledged, then close. Idempotent. Raises as `wait`."""
        try:
            if not self._closed:
                await self.wait_acknowledged()
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Close now, whatever is under way. Idempotent."""
        self._closed = self._stopped = True
        self._wake()
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
            self._reconnecting = None
        if self._link is not None:
            link, self._link = self._link, None
            await link.close()

    def disinherit(self) -> None:
        """In a forked child: let go of the parent's connection, which stays the parent's."""
        if self._link is not None:
            self._link.disinherit()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
            return
        try:
            if isinstance(error, Exception) and not isinstance(error, ClientError):
                # What was appended before something else went wrong is still to be delivered.
                await self.close()
        except ClientError:
            # The error that brought us here is the one to be told.
            pass
        finally:
            await self.abort()

    @property
    def unacknowledged(self) -> int:
        """Appends that the agent has not acknowledged yet."""
        return self._outbox.unacknowledged_records

    # -- waiting ---------------------------------------------------------------------------

    async def _request(self, request: Request) -> Request:
        try:
            self._pump()
            await self._until(lambda: request.done)
        finally:
            self._session.forget(request)
        if request.error is not None:
            raise request.error
        return request

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            if self._stopped:
                self._raise_trouble()
            changed = self._loop.create_future()
            waiter = (done, changed)
            self._waiters.append(waiter)
            try:
                await changed
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def _wake(self) -> None:
        if not self._waiters:
            return
        ended = self._stopped
        waiting = []
        for waiter in self._waiters:
            done, changed = waiter
            if ended or done():
                if not changed.done():
                    changed.set_result(None)
            else:
                waiting.append(waiter)
        self._waiters = waiting

    def _raise_trouble(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise ClientError(f"client is closed path={self._path}")
        refusal = self._outbox.next_refusal()
        if refusal is not None:
            raise refusal

    # -- moving bytes ----------------------------------------------------------------------

    def _pump_scheduled(self) -> None:
        self._scheduled = False
        self._pump()

    def _pump(self, *, only_closed: bool = False) -> None:
        link = self._link
        while link is not None and link.may_write:
            pieces = self._session.next_output(only_closed=only_closed)
            if not pieces:
                return
            link.write(pieces)

    def _received(self, data: bytes) -> None:
        try:
            self._session.receive(data)
        except ConnectionEnded as error:
            self._lost(str(error))
        except ClientError as error:
            self._fail(error)
        self._pump()
        self._wake()

    # -- connecting ------------------------------------------------------------------------

    async def _connect(self) -> None:
        """One attempt; afterwards there is a link, a failure, or neither."""
        link = Link(self._received, self._lost, self._pump)
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                await self._loop.create_unix_connection(lambda: link, self._path)
                self._link = link
                link.write([self._session.begin()])
                while self._link is link and not self._session.is_ready:
                    await link.something()
        except TimeoutError:
            self._lost(NO_GREETING)
        except OSError as error:
            self._lost((error.strerror or str(error)).lower())
        if self._link is not None:
            self._reconnection.connected()
            self._pump()

    def _lost(self, reason: str) -> None:
        """The connection has ended, or could not be made."""
        link, self._link = self._link, None
        if link is not None:
            link.abort()
        session = self._session
        session.end_reason = reason
        self._reconnection.lost(progress=session.progress)
        session.progress = False
        was_ready = session.is_ready
        session.lost()
        if was_ready and not self._closed and self._reconnecting is None:
            self._reconnecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        clock = self._options.clock
        while self._link is None and self._failure is None:
            if self._reconnection.is_hopeless:
                self._fail(
                    ConnectionLost(
                        f"no agent for too long: {self._session.end_reason} path={self._path} "
                        f"seconds={self._options.reconnect_timeout}"
                    )
                )
                break
            await clock.sleep(max(0.0, self._reconnection.next_attempt - clock.monotonic()))
            await self._connect()
        self._reconnecting = None
        self._wake()

    def _fail(self, error: ClientError) -> None:
        self._failure = error
        self._stopped = True
        link, self._link = self._link, None
        if link is not None:
            link.abort()
        self._wake()
