"""What a socket of protocol `syslog` is told in `[listen.syslog]`, and what follows from it."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from hf_agent.ingest.syslog.formats import FormatConfig, RawLines, largest_message, make_format
from hf_agent.ingest.syslog.framing import Trailer
from hf_agent.ingest.syslog.message import Parsed
from hf_agent.ingest.syslog.stream_template import SyslogTemplate

__all__ = ["Route", "SyslogConfig", "SyslogSettings"]

_ROUTES_REMEMBERED: Final = 1024


class SyslogConfig(FormatConfig, Protocol):
    """`[listen.syslog]`."""

    @property
    def socket(self) -> str: ...
    @property
    def octet_counting(self) -> bool: ...
    @property
    def trailer(self) -> Trailer: ...
    @property
    def fallback_stream(self) -> str:
        """Of messages whose fields make no stream's name."""
        ...

    @property
    def credentials(self) -> bool:
        """Whether a record says who sent it."""
        ...

    @property
    def receive_buffer_bytes(self) -> int:
        """SO_RCVBUF; 0: as the kernel has it."""
        ...

    @property
    def datagram_queue(self) -> int:
        """Datagrams that the kernel should queue; 0: as many as it does."""
        ...


class Route(NamedTuple):
    """Where a message goes."""

    stream: str
    is_fallback: bool


class SyslogSettings:
    """What the connections of one socket share."""

    def __init__(self, stream: str, config: SyslogConfig, *, max_record_bytes: int) -> None:
        """`stream` is a name or a template. Raises `ValueError` for a bad one."""
        self._template = SyslogTemplate(stream)
        self._fallback = Route(config.fallback_stream, True)
        self._routes: dict[tuple[object, ...], Route] = {}
        self.constant = stream if self._template.is_constant else None
        """The stream, if all messages go to one."""
        self.format = make_format(config)
        self.reads_fields = self.format.reads_fields or self.constant is None
        self.credentials = config.credentials
        """Whether formats are told the sender."""
        self.max_record_bytes = max_record_bytes
        self.max_message_bytes = largest_message(self.format, max_record_bytes)
        self.octet_counting = config.octet_counting
        self.trailer = config.trailer
        self.fallback_stream = config.fallback_stream
        self.plain = self.constant is not None and isinstance(self.format, RawLines)
        """Whether whole lines can be stored as they are."""

    def route(self, parsed: Parsed | None) -> Route:
        """Where a message with these fields goes."""
        if parsed is None:
            return Route(self.constant, False) if self.constant is not None else self._fallback
        key = (
            parsed.priority,
            getattr(parsed, "app_name", None),
            getattr(parsed, "hostname", None),
        )
        route = self._routes.get(key)
        if route is None:
            if len(self._routes) >= _ROUTES_REMEMBERED:
                self._routes.clear()
            stream = self._template.stream(parsed)
            route = self._fallback if stream is None else Route(stream, False)
            self._routes[key] = route
        return route
