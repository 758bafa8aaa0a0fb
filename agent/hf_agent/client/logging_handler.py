"""A handler for `logging` that writes to an agent and never holds the application up.

`emit` formats a record and puts it into a queue that is bounded in records and bytes. A daemon
thread sends what is there through an `AsyncClient` and waits for the agent's word. While there is
no agent the queue fills, and what does not fit is dropped and counted; once records go again, one
more says how many are missing.

After a fork the child begins with an empty queue, no connection and a producer name of its own:
what its parent had queued is the parent's to send.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hf_agent.client.async_client import AsyncClient
from hf_agent.client.errors import AppendRefused, ClientError
from hf_agent.client.options import ClientOptions, fresh_producer
from hf_agent.ingest.stream_name import STREAM_NAME_RULE, is_stream_name

__all__ = ["AgentHandler"]

_BATCH = 1000
_handlers: weakref.WeakSet[AgentHandler] = weakref.WeakSet()
_inherited: list[object] = []
"""What a forked child must not touch: the loops of its parent's threads."""


class AgentHandler(logging.Handler):
    """Appends each record, formatted and with a newline, to one stream. Exactly once, if at all.

    Counts, which only rise: `acknowledged` (durable with the agent), `dropped` (no room in the
    queue, or not sent before `close` had to end), `refused` (by the agent, or too large for it),
    `unconfirmed` (sent, and what became of them was not said: the agent shut this client out, or
    `close` had to end).
    """

    terminator = "\n"

    def __init__(
        self,
        path: str | os.PathLike[str],
        stream: str,
        *,
        level: int = logging.NOTSET,
        max_records: int = 10_000,
        max_bytes: int = 8 << 20,
        block: float = 0.0,
        flush_timeout: float = 2.0,
        close_timeout: float = 5.0,
        warn_interval: float = 10.0,
        options: ClientOptions | None = None,
    ) -> None:
        """`path` is a socket of protocol `append`; there need be no agent yet.

        `max_records` and `max_bytes` bound what waits or is not acknowledged. `block`: seconds that
        a call may wait for room. `flush` and `close` take at most their timeouts, in seconds. At
        least `warn_interval` seconds lie between two records about missing ones.
        """
        if not is_stream_name(stream):
            raise ValueError(f"no stream name {STREAM_NAME_RULE} stream={stream!r}")
        if max_records < 1 or max_bytes < 1:
            raise ValueError(
                "the queue needs room for at least one record "
                f"max_records={max_records} max_bytes={max_bytes}"
            )
        super().__init__(level)
        self._path = os.fspath(path)
        self._stream = stream
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._block = block
        self._flush_timeout = flush_timeout
        self._close_timeout = close_timeout
        self._warn_interval = warn_interval
        self._options = replace(options or ClientOptions(), reconnect_timeout=math.inf)
        self._clock = self._options.clock
        self.acknowledged = self.dropped = self.refused = self.unconfirmed = 0
        self._begin()
        _handlers.add(self)
        self._start()

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._queue: deque[bytes] = deque()
        self._records = 0  # queued, or sent and not answered
        self._bytes = 0
        self._in_hand = 0  # bytes that were taken from the queue and are not answered
        self._told = self.dropped
        self._told_at = -math.inf
        self._ending = False
        self._give_up_at = math.inf
        self._sleeps = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._end = asyncio.Event()
        self._client: AsyncClient | None = None

    # -- the application's side ------------------------------------------------------------

    def handle(self, record: logging.LogRecord) -> Any:
        """As in `logging.Handler`, but threads do not wait for each other."""
        passed: Any = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record, or count it as dropped. Takes at most `block` seconds."""
        try:
            data = self._line(record)
        except Exception:
            self.handleError(record)
            return
        with self._changed:
            if self._ending or not self._room(len(data)):
                self.dropped += 1
                return
            self._queue.append(data)
            self._records += 1
            self._bytes += len(data)
            if self._thread is None:
                self._start()
            self._rouse()

    def flush(self) -> None:
        """Wait until all that was queued is answered for, at most `flush_timeout` seconds."""
        with self._changed:
            self._rouse()
            self._changed.wait_for(lambda: not self._records, self._flush_timeout)

    def close(self) -> None:
        """Send what there is, at most for `close_timeout` seconds, and end. Idempotent."""
        with self._changed:
            if not self._ending:
                self._ending = True
                self._give_up_at = self._clock.monotonic() + self._close_timeout
                self._rouse()
                self._changed.notify_all()
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._end.set)
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._close_timeout + 1.0)
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + self.terminator).encode("utf-8", "backslashreplace")

    def _room(self, nbytes: int) -> bool:
        """Whether there is room, after waiting for it as long as may be."""

        def has_room() -> bool:
            fits = self._records < self._max_records and self._bytes + nbytes <= self._max_bytes
            return fits or self._ending

        if not has_room() and self._block > 0 and self._thread is not threading.current_thread():
            self._changed.wait_for(has_room, self._block)
        return has_room() and not self._ending

    def _rouse(self) -> None:
        if self._sleeps and self._loop is not None:
            self._sleeps = False
            self._loop.call_soon_threadsafe(self._wake.set)

    def _start(self) -> None:
        thread = threading.Thread(
            target=self._run, name=f"hf-agent logging {self._stream}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            return  # the interpreter ends; what is queued is told as dropped by nobody
        self._thread = thread

    # -- the thread's side -----------------------------------------------------------------

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        with self._changed:
            self._loop = asyncio.get_running_loop()
            if self._ending:
                self._end.set()
        sending = asyncio.create_task(self._send_all())
        ending = asyncio.create_task(self._end.wait())
        await asyncio.wait({sending, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            left = self._give_up_at - self._clock.monotonic()
            await asyncio.wait({sending}, timeout=max(left, 0.0))
        for task in (sending, ending):
            task.cancel()
        await asyncio.gather(sending, ending, return_exceptions=True)
        if self._client is not None:
            await self._client.abort()
        with self._changed:
            self.dropped += len(self._queue)
            self.unconfirmed += self._records - len(self._queue)
            self._queue.clear()
            self._records = self._bytes = 0
            self._changed.notify_all()

    async def _roused(self) -> None:
        """Return when there is something new: a record, or `close`."""
        with self._changed:
            if self._queue or self._ending:
                return
            self._wake.clear()
            self._sleeps = True
        await self._wake.wait()

    async def _send_all(self) -> None:
        pause = self._options.backoff_min
        while not (self._ending and not self._records):
            if not self._queue and not self._records:
                await self._roused()
                continue
            try:
                if self._client is None:
                    client = AsyncClient(
                        self._path,
                        fresh_producer(self._clock, self._options.rng),
                        options=self._options,
                    )
                    self._client = await client.connect()
                    pause = self._options.backoff_min
                await self._send(self._client)
            except ClientError:
                await self._lost_client()
                await self._clock.sleep(pause * self._options.rng.uniform(0.5, 1.0))
                pause = min(2 * pause, self._options.backoff_max)

    async def _lost_client(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        await client.abort()
        with self._changed:
            # A new client has a new name: what this one sent may be stored, and is not sent again.
            sent = self._records - len(self._queue)
            self.unconfirmed += sent
            self._answered(sent)

    async def _send(self, client: AsyncClient) -> None:
        """Send a batch of what is queued, and wait for the agent's word on all of it."""
        batch: list[bytes] = []
        with self._changed:
            while self._queue and len(batch) < _BATCH:
                batch.append(self._queue.popleft())
            self._in_hand = sum(map(len, batch))
        refused = await self._append(client, [*self._missing(), *batch])
        while True:
            try:
                await client.wait_acknowledged()
                break
            except AppendRefused as error:
                refused += error.last_id - error.id + 1
        with self._changed:
            refused = min(refused, len(batch))
            self.acknowledged += len(batch) - refused
            self.refused += refused
            self._answered(len(batch))

    async def _append(self, client: AsyncClient, lines: Sequence[bytes]) -> int:
        refused = last_id = 0
        for line in lines:
            while True:
                try:
                    last_id = await client.append(self._stream, line)
                except AppendRefused as error:
                    refused += error.last_id - error.id + 1
                    if last_id and error.id <= last_id:
                        continue  # an earlier one; this one was not taken yet
                break
        return refused

    def _missing(self) -> list[bytes]:
        """One more record, if some are missing that nobody was told of."""
        now = self._clock.monotonic()
        missing = self.dropped - self._told
        if not missing or now - self._told_at < self._warn_interval:
            return []
        self._told, self._told_at = self.dropped, now
        text = "%d log records were dropped: the queue for the agent was full"
        record = logging.LogRecord(__name__, logging.WARNING, "", 0, text, (missing,), None)
        return [self._line(record)]

    def _answered(self, records: int) -> None:
        """What was taken from the queue last has its answer. The lock is held."""
        self._records -= records
        self._bytes -= self._in_hand
        self._in_hand = 0
        self._changed.notify_all()

    # -- after a fork ----------------------------------------------------------------------

    def _forked(self) -> None:
        """In the child: begin anew, without the parent's connection."""
        _inherited.append((self._loop, self._client))
        if self._client is not None:
            self._client.disinherit()
        self.acknowledged = self.dropped = self.refused = self.unconfirmed = 0
        self._begin()


def _forked() -> None:
    for handler in list(_handlers):
        handler._forked()


os.register_at_fork(after_in_child=_forked)
