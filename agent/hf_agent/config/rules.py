"""What values must be, each by itself and together."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from hf_agent.config.access_rules import check_access
from hf_agent.config.errors import Problems
from hf_agent.config.forward_rules import check_forward
from hf_agent.config.lines_rules import check_lines
from hf_agent.config.listen_address import parse_listen_address
from hf_agent.config.location import KeyPath, dotted
from hf_agent.config.model import FIRST_LINE, Config, Listen
from hf_agent.config.s3_rules import S3_RANGES, check_endpoint, check_proxy, s3_rules
from hf_agent.config.syslog_rules import check_syslog
from hf_agent.config.urls import check_url
from hf_agent.ingest.forward.stream_template import StreamTemplate
from hf_agent.ingest.stream_name import MAX_STREAM_NAME_BYTES, is_stream_name
from hf_agent.ingest.syslog.stream_template import SyslogTemplate

__all__ = ["check"]

_MIB = 1 << 20
_RANGES: dict[KeyPath, tuple[float, float]] = {
    ("agent", "max_streams"): (1, 1_000_000),
    ("agent", "receive_buffer_bytes"): (4096, 64 << 30),
    ("wal", "file_bytes"): (64 << 10, 1 << 30),
    ("wal", "max_bytes"): (192 << 10, 1 << 50),
    ("wal", "max_batch_bytes"): (4096, 256 * _MIB),
    ("wal", "max_pending_bytes"): (4096, 1 << 30),
    ("wal", "max_producers"): (1, 1_000_000),
    ("wal", "max_chunk_ids"): (1, 1_000_000),
    ("wal", "max_chunk_age"): (1, 30 * 86_400),
    ("flush", "interval"): (0.01, 7 * 86_400),
    # One checkpoint's first part holds at most 1 GiB, the block map's nodes included.
    ("flush", "bytes"): (1, 512 * _MIB),
    ("flush", "concurrency"): (1, 256),
    # The format allows 2**30; but each stream keeps its last block in memory between flushes.
    ("flush", "block_size"): (4096, 16 * _MIB),
    ("flush", "shutdown_timeout"): (0, 86_400),
    ("flush", "retry_min"): (0.001, 3600),
    ("flush", "retry_max"): (0.001, 86_400),
}
_LISTEN_RANGES: dict[str, tuple[float, float]] = {
    "max_connections": (1, 65_536),
    "max_record_bytes": (1, 256 * _MIB),
}
_SUN_PATH = 107
"""Bytes of a socket's path in `struct sockaddr_un`, without the closing NUL (Linux: unix(7))."""
_RECORDS_PER_FILE = 4
"""A WAL file holds this many of the largest records: what it does not hold goes to the next."""
_FRAME_BYTES = 64 << 10
"""What a message of protocol `append` may have beside its record."""
_MAX_HOSTS = 64
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")
_PLACEHOLDER = re.compile(r"\{[^{}]*\}|[{}]")


def check(config: Config, problems: Problems) -> None:
    """Put everything that is wrong with the values of `config` into `problems`."""
    rules = _Rules(config, problems)
    rules.ranges()
    rules.agent()
    rules.listeners()
    rules.wal()
    rules.flush()
    rules.store()
    rules.http()


class _Rules:
    def __init__(self, config: Config, problems: Problems) -> None:
        self._config = config
        self._problems = problems

    def _require(self, holds: bool, what: str, path: KeyPath, *also: KeyPath) -> None:
        """A rule about `path`: silent where that, or what it is compared with, is wrong already."""
        if not any(self._problems.concern(each) for each in (path, *also)) and not holds:
            self._problems.add(path, what)

    def _parses(self, parse: Callable[[str], object], value: str, path: KeyPath) -> None:
        """A rule that says itself what is wrong, by a `ValueError`."""
        if not self._problems.concern(path):
            try:
                parse(value)
            except ValueError as error:
                self._problems.add(path, str(error))

    def _range(self, value: float, bounds: tuple[float, float], path: KeyPath) -> None:
        low, high = bounds
        self._require(low <= value <= high, f"must be from {low} to {high}", path)

    def ranges(self) -> None:
        for path, bounds in _RANGES.items():
            table, key = path
            value = getattr(getattr(self._config, str(table)), str(key))
            self._range(value, bounds, path)

    def agent(self) -> None:
        self._require(
            is_stream_name(self._config.agent.node),
            "not a node's name: use letters, digits, '.', '_' and '-'",
            ("agent", "node"),
        )

    def listeners(self) -> None:
        config = self._config
        self._require(
            bool(config.listen), "missing: add at least one [[listen]] table", ("listen",)
        )
        taken: dict[str, KeyPath] = {}
        for index, listen in enumerate(config.listen):
            at: KeyPath = ("listen", index)
            for key, bounds in _LISTEN_RANGES.items():
                self._range(getattr(listen, key), bounds, (*at, key))
            self._parses(check_socket_path, listen.path, (*at, "path"))
            self._stream(listen, (*at, "stream"), (*at, "protocol"))
            real = os.path.abspath(listen.path)  # noqa: PTH100 - resolve() would ask the disk
            self._require(
                real not in taken,
                f"used already by {dotted(taken.get(real, ()))}: each socket needs its own path",
                (*at, "path"),
            )
            taken.setdefault(real, (*at, "path"))
            self._record_fits(listen, (*at, "max_record_bytes"))
            check_access(listen, at, self._require)
            check_forward(config, listen, (*at, "forward"), self._require)
            check_syslog(listen, (*at, "syslog"), self._require)
            check_lines(listen, (*at, "lines"), self._require)

    def _stream(self, listen: Listen, path: KeyPath, protocol: KeyPath) -> None:
        if listen.protocol == "append":
            self._require(
                not listen.stream,
                'protocol "append" names the stream with each append: remove this key',
                path,
                protocol,
            )
            return
        if listen.protocol == "forward":
            self._parses(StreamTemplate, listen.stream, path)
            return
        if listen.protocol == "syslog" and "{" in listen.stream:
            self._parses(SyslogTemplate, listen.stream, path)
            return
        if listen.protocol == "syslog":
            how = '"{app_name}", "{facility}" or the like to take it from each message'
        else:
            how = f'"{FIRST_LINE}" to take it from each connection\'s first line'
        self._require(
            bool(listen.stream),
            f'protocol "{listen.protocol}" needs a stream: its name, or {how}',
            path,
            protocol,
        )
        self._require(
            not listen.stream or listen.stream == FIRST_LINE or is_stream_name(listen.stream),
            f"not a stream's name: 1-{MAX_STREAM_NAME_BYTES} letters, digits and . _ - /, "
            f'without empty, "." or ".." segments (or "{FIRST_LINE}")',
            path,
            protocol,
        )

    def _record_fits(self, listen: Listen, path: KeyPath) -> None:
        wal, agent = self._config.wal, self._config.agent
        size = listen.max_record_bytes
        self._require(
            size * _RECORDS_PER_FILE <= wal.file_bytes,
            f"must be at most a quarter of wal.file_bytes ({wal.file_bytes}): make that larger, "
            "or this smaller",
            path,
            ("wal", "file_bytes"),
        )
        self._require(
            size <= wal.max_pending_bytes,
            f"must not be above wal.max_pending_bytes ({wal.max_pending_bytes})",
            path,
            ("wal", "max_pending_bytes"),
        )
        self._require(
            size + _FRAME_BYTES <= agent.receive_buffer_bytes,
            f"must leave {_FRAME_BYTES} bytes of agent.receive_buffer_bytes "
            f"({agent.receive_buffer_bytes}) free for what frames a record",
            path,
            ("agent", "receive_buffer_bytes"),
        )

    def wal(self) -> None:
        wal = self._config.wal
        self._require(
            wal.max_bytes >= 3 * wal.file_bytes,
            f"must be at least 3 times wal.file_bytes ({wal.file_bytes}): one file is written, "
            "one is spare, and one waits for the store",
            ("wal", "max_bytes"),
            ("wal", "file_bytes"),
        )
        self._require(
            wal.max_batch_bytes <= wal.max_pending_bytes,
            f"must not be above wal.max_pending_bytes ({wal.max_pending_bytes})",
            ("wal", "max_batch_bytes"),
            ("wal", "max_pending_bytes"),
        )

    def flush(self) -> None:
        flush = self._config.flush
        self._require(
            flush.block_size & (flush.block_size - 1) == 0,
            'must be a power of two, as 4096 or "64KiB"',
            ("flush", "block_size"),
        )
        self._require(
            flush.retry_min <= flush.retry_max,
            f"must not be above flush.retry_max ({flush.retry_max:g}s)",
            ("flush", "retry_min"),
            ("flush", "retry_max"),
        )

    def store(self) -> None:
        store = self._config.store
        self._parses(check_url, store.url, ("store", "url"))
        self._parses(_check_key, store.key, ("store", "key"))
        self._parses(check_endpoint, store.s3.endpoint_url, ("store", "s3", "endpoint_url"))
        self._parses(check_proxy, store.s3.proxy, ("store", "s3", "proxy"))
        for key, bounds in S3_RANGES.items():
            self._range(getattr(store.s3, key), bounds, ("store", "s3", key))
        s3_rules(store.s3, store.url, self._require)

    def http(self) -> None:
        hosts = self._config.http.allowed_hosts
        at: KeyPath = ("http", "allowed_hosts")
        self._require(
            len(hosts) <= _MAX_HOSTS, f'too many entries: at most {_MAX_HOSTS}, or "*" for any', at
        )
        for index, host in enumerate(hosts):
            self._require(
                host == "*" or bool(_HOST_NAME.fullmatch(host)),
                'not a name of a host: write it without scheme, port and path, or "*" for any',
                (*at, index),
            )
        path: KeyPath = ("http", "listen")
        self._parses(parse_listen_address, self._config.http.listen, path)
        for index, listen in enumerate(self._config.listen):
            self._require(
                not listen.path or listen.path != self._config.http.listen,
                f"used already by listen[{index}].path: each socket needs its own path",
                path,
            )


def check_socket_path(path: str) -> None:
    """Raise `ValueError` where no Unix socket can have this path."""
    if not path:
        raise ValueError("empty: give the path of a Unix socket")
    if path.endswith("/"):
        raise ValueError("names a directory: give the path of a Unix socket")
    length = len(os.fsencode(path))
    if length > _SUN_PATH:
        raise ValueError(
            f"too long for a Unix socket: {length} bytes, at most {_SUN_PATH}; choose a shorter "
            "path, or one relative to the directory in which the agent starts"
        )


def _check_key(key: str) -> None:
    if "{stream}" not in key:
        raise ValueError("must contain {stream}: every stream needs a container of its own")
    for found in _PLACEHOLDER.findall(key):
        if found not in ("{node}", "{stream}"):
            raise ValueError(f"'{found}' means nothing here: there are {{node}} and {{stream}}")
    if not is_stream_name(key.replace("{stream}", "s").replace("{node}", "n")):
        raise ValueError(
            "not a key: use letters, digits, '.', '_', '-' and '/' around {node} and {stream}, "
            'without empty, "." or ".." segments'
        )
