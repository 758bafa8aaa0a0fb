"""What a socket of protocol `forward` is told in `[listen.forward]`, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import structlog

from hf_agent.ingest.forward.formats import Format, FormatConfig, fallback_format, own_format
from hf_agent.ingest.forward.handshake import Secrets
from hf_agent.ingest.forward.stream_template import WHOLE_TAG, StreamTemplate

__all__ = ["ForwardConfig", "ForwardSettings", "Route", "UserConfig"]

_log = structlog.get_logger(__name__)

_TAGS_REMEMBERED = 1024


class UserConfig(Protocol):
    """One entry of `[[listen.forward.users]]`."""

    @property
    def name(self) -> str: ...
    @property
    def password(self) -> str: ...


class ForwardConfig(FormatConfig, Protocol):
    """`[listen.forward]`."""

    @property
    def fallback_stream(self) -> str:
        """Of tags that make no stream's name; empty: their events are refused."""
        ...

    @property
    def max_message_bytes(self) -> int: ...
    @property
    def max_unpacked_bytes(self) -> int: ...
    @property
    def shared_key(self) -> str:
        """Empty: no handshake."""
        ...

    @property
    def hostname(self) -> str:
        """What the agent calls itself in the handshake."""
        ...

    @property
    def users(self) -> Sequence[UserConfig]: ...


class Route(NamedTuple):
    """Where the events of a tag go."""

    stream: str
    format: Format
    is_fallback: bool


class ForwardSettings:
    """What the connections of one socket share."""

    def __init__(self, stream: str, config: ForwardConfig, *, max_part_bytes: int) -> None:
        """`stream` is a template, or empty for the whole tag. Raises `ValueError` for a bad one."""
        self._template = StreamTemplate(stream or WHOLE_TAG)
        self._format = own_format(config)
        self._fallback: Route | None = None
        if config.fallback_stream:
            self._fallback = Route(config.fallback_stream, fallback_format(config), True)
        self._routes: dict[bytes, Route | None] = {}
        self.max_part_bytes = max_part_bytes
        self.max_message_bytes = config.max_message_bytes
        self.max_unpacked_bytes = config.max_unpacked_bytes
        self.hostname = config.hostname
        self.secrets: Secrets | None = None
        if config.shared_key:
            users = {user.name: user.password for user in config.users}
            self.secrets = Secrets(config.shared_key, users)

    def route(self, tag: bytes) -> Route | None:
        """Where events of `tag` go; None: they are refused."""
        routes = self._routes
        if tag not in routes:
            if len(routes) >= _TAGS_REMEMBERED:
                routes.clear()
            routes[tag] = self._find(tag)
        return routes[tag]

    def _find(self, tag: bytes) -> Route | None:
        stream = None
        try:
            stream = self._template.stream(tag.decode())
        except UnicodeDecodeError:
            pass  # no name either
        if stream is not None:
            return Route(stream, self._format, False)
        if self._fallback is not None:
            _log.warning(
                "tag makes no stream's name: its events go to the fallback stream",
                tag=tag.decode(errors="backslashreplace"),
                stream=self._fallback.stream,
            )
        return self._fallback
