"""One Unix socket: listens, keeps its connections, ends them in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

from hf_agent.clock import Clock
from hf_agent.ingest.acceptor import Acceptor, HeldAcceptor
from hf_agent.ingest.admission import Admission, UnknownAccount
from hf_agent.ingest.allowed_streams import AllowedStreams
from hf_agent.ingest.append_connection import AppendConnection
from hf_agent.ingest.assembled_lines_connection import AssembledLinesConnection
from hf_agent.ingest.budget import ReceiveBudget
from hf_agent.ingest.connection import Connection
from hf_agent.ingest.datagram_queue import size_queue
from hf_agent.ingest.endpoint import Endpoint, ListenConfig
from hf_agent.ingest.forward.settings import ForwardSettings
from hf_agent.ingest.forward_connection import ForwardConnection
from hf_agent.ingest.lines.settings import LinesSettings
from hf_agent.ingest.lines_connection import LinesConnection
from hf_agent.ingest.peers import Peer
from hf_agent.ingest.producers import ProducerRegistry
from hf_agent.ingest.sink import Sink
from hf_agent.ingest.stream_patterns import compile_patterns
from hf_agent.ingest.syslog.settings import SyslogSettings
from hf_agent.ingest.syslog_connection import SyslogConnection
from hf_agent.ingest.syslog_datagrams import SyslogDatagrams
from hf_agent.ingest.unix_socket import ListenerError, bind_unix_socket, unlink_if_ours
from hf_agent.metrics import Metrics

__all__ = ["Listener", "ListenerError"]

_BACKLOG = 1024


class Listener:
    """Listens on one socket. `start`, `stop_accepting`, `close`, each once, in this order."""

    def __init__(
        self,
        config: ListenConfig,
        sink: Sink,
        metrics: Metrics,
        budget: ReceiveBudget,
        clock: Clock,
        *,
        producers: ProducerRegistry,
        node: str,
    ) -> None:
        """`budget` and `producers` are shared by all listeners of an agent.

        Raises `ListenerError` when `config` names users or groups that are not there.
        """
        try:
            admission = Admission(config)
        except UnknownAccount as error:
            raise ListenerError(f"{error} path={config.path}") from error
        if config.allow_streams:
            sink = AllowedStreams(sink, compile_patterns(config.allow_streams))
        self._endpoint = Endpoint(config, admission, sink, metrics, budget, producers, clock, node)
        self._acceptor: Acceptor | None = None
        self._datagrams: SyslogDatagrams | None = None
        self._place: tuple[int, int] | None = None

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._endpoint.connections)

    def peers(self) -> Iterator[Peer]:
        """Who is connected, once for each connection."""
        return self._endpoint.peers()

    def waits(self) -> Iterator[tuple[str, str]]:
        """Protocol and reason for each thing that a connection waits for before it goes on."""
        for connection in self._endpoint.connections:
            for wait in connection.waits:
                yield connection.protocol, wait.value

    async def start(self) -> None:
        """Listen. Raises `ListenerError` when the socket cannot be had."""
        endpoint = self._endpoint
        config = endpoint.config
        if config.protocol == "syslog" and config.syslog.socket == "datagram":
            self._start_datagrams()
            return
        listening, self._place = bind_unix_socket(
            config.path, mode=config.mode, owner=config.owner, group=config.group
        )
        if config.protocol == "lines":
            self._acceptor = HeldAcceptor(listening, self._lines_factory(), endpoint.clock)
        elif config.protocol == "forward":
            self._acceptor = Acceptor(listening, self._forward_factory(), endpoint.clock)
        elif config.protocol == "syslog":
            self._acceptor = HeldAcceptor(listening, self._syslog_factory(), endpoint.clock)
        else:
            self._acceptor = Acceptor(listening, self._append_connection, endpoint.clock)
        self._acceptor.start(_BACKLOG)
        endpoint.end_idle()
        endpoint.metrics.max_connections.labels(config.protocol).inc(config.max_connections)

    def stop_accepting(self) -> None:
        """Let nobody in any more, and remove the socket's file if it is still ours. Idempotent."""
        endpoint = self._endpoint
        if self._place is None or endpoint.stopping:
            return
        endpoint.stopping = True
        if self._datagrams is not None:
            unlink_if_ours(endpoint.config.path, self._place)
            self._datagrams.stop()
        if self._acceptor is None:
            return
        self._acceptor.stop()
        unlink_if_ours(endpoint.config.path, self._place)
        config = endpoint.config
        endpoint.metrics.max_connections.labels(config.protocol).dec(config.max_connections)

    async def drain(self, grace: float) -> int:
        """Have connections take what was read, answer it and close; at most `grace` seconds.

        Returns how many were left open.
        """
        self.stop_accepting()
        connections = self._endpoint.connections
        for connection in list(connections):
            connection.drain()
        try:
            async with asyncio.timeout(grace):
                if self._datagrams is not None:
                    await self._datagrams.drained()
                while connections:
                    await self._endpoint.one_gone()
        except TimeoutError:
            pass
        return len(connections)

    async def close(self, grace: float = 0.0) -> None:
        """`drain`, then close what is left, whatever it waits for. Idempotent."""
        if self._place is None:
            return
        await self.drain(grace)
        if self._datagrams is not None:
            self._datagrams.close()
        for connection in list(self._endpoint.connections):
            connection.abort()
        while self._endpoint.connections:
            await self._endpoint.one_gone()
        await self._endpoint.wakeups.close()
        if self._acceptor is not None:
            await self._acceptor.close()

    def _start_datagrams(self) -> None:
        endpoint = self._endpoint
        config = endpoint.config
        bound, self._place = bind_unix_socket(
            config.path,
            mode=config.mode,
            owner=config.owner,
            group=config.group,
            kind=socket.SOCK_DGRAM,
            credentials=True,
        )
        size_queue(
            bound,
            str(config.path),
            receive_buffer=config.syslog.receive_buffer_bytes,
            queue=config.syslog.datagram_queue,
        )
        self._datagrams = SyslogDatagrams(bound, endpoint, self._syslog_settings())
        self._datagrams.start()

    def _syslog_settings(self) -> SyslogSettings:
        config = self._endpoint.config
        return SyslogSettings(
            config.stream, config.syslog, max_record_bytes=config.max_record_bytes
        )

    def _syslog_factory(self) -> Callable[[], Connection]:
        endpoint, settings = self._endpoint, self._syslog_settings()
        return lambda: SyslogConnection(endpoint, settings)

    def _append_connection(self) -> Connection:
        return AppendConnection(self._endpoint)

    def _forward_factory(self) -> Callable[[], Connection]:
        endpoint = self._endpoint
        config = endpoint.config
        settings = ForwardSettings(
            config.stream, config.forward, max_part_bytes=config.max_record_bytes
        )
        return lambda: ForwardConnection(endpoint, settings)

    def _lines_factory(self) -> Callable[[], Connection]:
        endpoint = self._endpoint
        settings = LinesSettings(
            endpoint.config.lines,
            max_record_bytes=endpoint.config.max_record_bytes,
            joined=endpoint.metrics.joined_records.add,
            malformed=lambda: endpoint.metrics.malformed_lines.add("cri"),
        )
        if settings.is_plain:
            return lambda: LinesConnection(endpoint)
        return lambda: AssembledLinesConnection(endpoint, settings)
