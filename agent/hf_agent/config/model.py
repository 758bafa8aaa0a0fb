"""The configuration as values: one frozen struct for each table, every limit with its default.

Sizes are bytes, durations seconds. The annotations name how a value is written in the file
(`units`); what values mean together is checked in `rules`.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from hf_agent.config.expand import host_name

__all__ = [
    "FIRST_LINE",
    "S3",
    "Agent",
    "Config",
    "Flush",
    "Forward",
    "ForwardUser",
    "Http",
    "Kind",
    "Lines",
    "Listen",
    "Log",
    "Store",
    "Syslog",
    "Wal",
]

FIRST_LINE = "{first_line}"
"""As `listen[].stream` of protocol `lines`: each connection's first line names its stream."""

_DATA_DIR = "/var/lib/hf-agent"


class Kind(Enum):
    """How a value is written in the file."""

    SIZE = "size"
    DURATION = "duration"
    MODE = "mode"
    COUNT = "count"
    DIRECTORY = "directory"
    ACCOUNT = "account"


Size = Annotated[int, Meta(extra={"kind": Kind.SIZE})]
Duration = Annotated[float, Meta(extra={"kind": Kind.DURATION})]
Mode = Annotated[int, Meta(extra={"kind": Kind.MODE})]
Count = Annotated[int, Meta(extra={"kind": Kind.COUNT})]
Directory = Annotated[str, Meta(extra={"kind": Kind.DIRECTORY})]
"""An absolute path."""
Account = Annotated[str, Meta(extra={"kind": Kind.ACCOUNT})]
"""A user or group: its name, or its number in decimal digits."""


class Agent(Struct, frozen=True, kw_only=True):
    """`[agent]`"""

    node: str = field(default_factory=host_name)
    data_dir: Directory = _DATA_DIR
    max_streams: Count = 10_000
    receive_buffer_bytes: Size = 64 << 20


class ForwardUser(Struct, frozen=True, kw_only=True):
    """`[[listen.forward.users]]`"""

    name: str
    password: str


class Forward(Struct, frozen=True, kw_only=True):
    """`[listen.forward]`: of a socket with protocol `forward`"""

    format: Literal["json", "msgpack"] = "json"
    time_key: str = "time"
    tag_key: str = ""
    message_key: str = ""
    fallback_stream: str = "forward-fallback"
    max_message_bytes: Size = 16 << 20
    max_unpacked_bytes: Size = 64 << 20
    shared_key: str = ""
    hostname: str = "hf-agent"
    users: tuple[ForwardUser, ...] = ()


class Syslog(Struct, frozen=True, kw_only=True):
    """`[listen.syslog]`: of a socket with protocol `syslog`"""

    socket: Literal["stream", "datagram"] = "stream"
    format: Literal["raw", "json"] = "raw"
    raw_framing: Literal["lines", "octets"] = "lines"
    octet_counting: bool = True
    trailer: Literal["any", "newline", "nul"] = "any"
    fallback_stream: str = "syslog-fallback"
    credentials: bool = False
    receive_buffer_bytes: Size = 0
    datagram_queue: Count = 0


class Lines(Struct, frozen=True, kw_only=True):
    """`[listen.lines]`: of a socket with protocol `lines`"""

    format: Literal["raw", "json"] = "raw"
    time_key: str = "time"
    pid_key: str = "pid"
    uid_key: str = "uid"
    stream_key: str = "stream"
    message_key: str = "message"
    cri: bool = False
    start_pattern: str = ""
    max_group_lines: Count = 1000
    max_group_bytes: Size = 1 << 20
    max_group_wait: Duration = 1.0
    say_ok: bool = False


class Listen(Struct, frozen=True, kw_only=True):
    """`[[listen]]`: one Unix socket"""

    path: str
    protocol: Literal["append", "lines", "forward", "syslog"] = "append"
    stream: str = ""
    mode: Mode = 0o660
    owner: str = ""
    group: str = ""
    allow_uids: tuple[Account, ...] = ()
    allow_gids: tuple[Account, ...] = ()
    allow_streams: tuple[str, ...] = ()
    max_connections: Count = 1024
    max_connections_per_uid: Count = 0
    idle_timeout: Duration = 0.0
    connection_bytes_per_second: Size = 0
    connection_burst_bytes: Size = 0
    stream_bytes_per_second: Size = 0
    stream_burst_bytes: Size = 0
    max_record_bytes: Size = 8 << 20
    forward: Forward = Forward()
    syslog: Syslog = Syslog()
    lines: Lines = Lines()


class Wal(Struct, frozen=True, kw_only=True):
    """`[wal]`"""

    dir: Directory = _DATA_DIR + "/wal"
    file_bytes: Size = 64 << 20
    max_bytes: Size = 8 << 30
    when_full: Literal["block", "reject"] = "block"
    max_batch_bytes: Size = 4 << 20
    max_pending_bytes: Size = 16 << 20
    max_producers: Count = 16_384
    max_chunk_ids: Count = 65_536
    max_chunk_age: Duration = 3600.0


class Flush(Struct, frozen=True, kw_only=True):
    """`[flush]`"""

    interval: Duration = 5.0
    bytes: Size = 16 << 20
    concurrency: Count = 4
    block_size: Size = 64 << 10
    shutdown_timeout: Duration = 30.0
    retry_min: Duration = 0.2
    retry_max: Duration = 30.0


class S3(Struct, frozen=True, kw_only=True):
    """`[store.s3]`; an empty string leaves the choice to botocore's own chain, or the bucket's"""

    region: str = ""
    endpoint_url: str = ""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    profile: str = ""
    role_arn: str = ""
    external_id: str = ""
    sse: Literal["", "AES256", "aws:kms"] = ""
    sse_kms_key_id: str = ""
    sse_bucket_key: bool = False
    storage_class: Literal[
        "",
        "STANDARD",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER_IR",
        "REDUCED_REDUNDANCY",
        "EXPRESS_ONEZONE",
    ] = ""
    checksum: Literal["none", "crc32", "crc32c", "sha256"] = "none"
    ca_bundle: str = ""
    proxy: str = ""
    connect_timeout: Duration = 10.0
    read_timeout: Duration = 30.0
    request_timeout: Duration = 300.0
    multipart_threshold: Size = 16 << 20
    part_bytes: Size = 8 << 20
    part_concurrency: Count = 4


class Store(Struct, frozen=True, kw_only=True):
    """`[store]`"""

    url: str
    key: str = "{node}/{stream}"
    s3: S3 = S3()


class Http(Struct, frozen=True, kw_only=True):
    """`[http]`"""

    listen: str = "127.0.0.1:9477"
    allowed_hosts: tuple[str, ...] = ()


class Log(Struct, frozen=True, kw_only=True):
    """`[log]`"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Config(Struct, frozen=True, kw_only=True):
    """The whole file."""

    listen: tuple[Listen, ...]
    store: Store
    agent: Agent = field(default_factory=Agent)
    wal: Wal = Wal()
    flush: Flush = Flush()
    http: Http = Http()
    log: Log = Log()
