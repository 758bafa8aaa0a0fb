"""What each key of the configuration means: for its page in docs, its schema and its example.

Markdown in one line; links are relative to docs. A test holds the names to those of `model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["MEANINGS"]

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "agent.node": "stands for `{node}` in `store.key`; letters, digits, `.`, `_`, `-` and `/`",
        "agent.data_dir": (
            "what the agent writes for itself is below it; it is made when its parent exists"
        ),
        "agent.max_streams": "streams that may be known at a time; a new one beyond it is refused",
        "agent.receive_buffer_bytes": (
            "memory for records that have not arrived whole, over all connections; must hold "
            "the largest record and 64 KiB. Beside it are 16 KiB for each connection, one record "
            "more when all wait for each other, and up to 16 MiB of buffers that are done with, "
            "kept for the next reads until nothing needs one for a second or two"
        ),
        "listen[].path": "of the socket; at most 107 bytes, as written",
        "listen[].protocol": (
            "`append` (docs/append-protocol.md), `lines` (docs/lines-protocol.md), `forward` "
            "(docs/forward-protocol.md) or `syslog` (docs/syslog-protocol.md)"
        ),
        "listen[].stream": (
            "protocol `lines`, and needed there: the stream's name, or `{first_line}`: each "
            "connection's first line names its stream. Protocol `forward`: a name, made of "
            "the tag or its parts if wanted, as `{tag}` (which empty stands for), "
            "`{tag[0]}`, `{tag[1:]}`. Protocol `syslog`, and needed there: a name, made of "
            "`{app_name}`, `{facility}`, `{hostname}` and `{severity}` if wanted"
        ),
        "listen[].mode": "permissions of the socket",
        "listen[].owner": "user (name or number) that the socket is given to; empty: the agent's",
        "listen[].group": "the same for the group",
        "listen[].allow_uids": (
            "users (names or numbers) that may connect, or send datagrams, by what the kernel "
            "says of them; "
            "with `allow_gids` empty too: everybody. [access.md](access.md) says more of "
            "this and what follows"
        ),
        "listen[].allow_gids": "the same for groups; either list admits",
        "listen[].allow_streams": (
            'patterns of the streams that may be appended to, as `["app/*", "audit"]`; '
            "empty: every stream"
        ),
        "listen[].max_connections": "open at a time",
        "listen[].max_connections_per_uid": (
            "open at a time of one user; 0: as many as `max_connections`"
        ),
        "listen[].idle_timeout": (
            "a connection that sent nothing for this long, and waits for nothing, is ended; "
            '0: never; else at least `"1s"`'
        ),
        "listen[].connection_bytes_per_second": (
            'read from one connection; over it, reading slows. 0: no limit; else at least `"1KiB"`'
        ),
        "listen[].connection_burst_bytes": (
            'what may come at once; at least `"16KiB"`. 0: what the rate gives in a second, '
            "and 64 KiB at least"
        ),
        "listen[].stream_bytes_per_second": (
            "appended to one stream over this socket; as for connections"
        ),
        "listen[].stream_burst_bytes": "the same for a stream",
        "listen[].max_record_bytes": (
            "of one append, or one line; at most a quarter of `wal.file_bytes`, and not "
            "above `wal.max_pending_bytes`"
        ),
        "listen[].forward.format": (
            "what an event becomes in its stream: a line of `json`, or `msgpack` as it came"
        ),
        "listen[].forward.time_key": (
            "the key under which its time stands in a line; empty: not written"
        ),
        "listen[].forward.tag_key": (
            "the key under which its tag stands in a line; empty: not written"
        ),
        "listen[].forward.message_key": (
            'if set, as to `"log"`, only what stands under this key of an event is written, '
            "as it is, and a newline if it has none"
        ),
        "listen[].forward.fallback_stream": (
            "for events whose tag makes no stream's name; empty: they are refused"
        ),
        "listen[].forward.max_message_bytes": (
            "of one message as it comes; 64 KiB less than `agent.receive_buffer_bytes` at most"
        ),
        "listen[].forward.max_unpacked_bytes": "of what one compressed message unpacks to",
        "listen[].forward.shared_key": "if set, peers must show in a handshake that they know it",
        "listen[].forward.hostname": "what the agent calls itself in the handshake",
        "listen[].forward.users": (
            "`[[listen.forward.users]]` tables with `name` and `password`: if there are any, "
            "peers must be one of them"
        ),
        "listen[].syslog.socket": "`stream` or `datagram`, as `/dev/log` is",
        "listen[].syslog.format": (
            "what a message becomes in its stream: itself, or a line of `json` with its fields"
        ),
        "listen[].syslog.raw_framing": (
            "how raw messages are parted: a line each, those with newlines escaped, or "
            "`octets`: each with its length in front"
        ),
        "listen[].syslog.octet_counting": (
            "whether a digit begins a message's length on a stream socket"
        ),
        "listen[].syslog.trailer": (
            "what ends other messages there: `newline`, `nul`, or either of them"
        ),
        "listen[].syslog.fallback_stream": "for messages whose fields make no stream's name",
        "listen[].syslog.credentials": (
            "with `json`: also write `pid` and `uid` of the sender, as the kernel knows them"
        ),
        "listen[].syslog.receive_buffer_bytes": (
            "SO_RCVBUF of a datagram socket; 0: as the kernel has it. Linux does not look at "
            "it for Unix sockets"
        ),
        "listen[].syslog.datagram_queue": (
            "datagrams that the kernel should queue: the log says when it queues fewer"
        ),
        "listen[].lines.format": "what a line becomes in its stream: itself, or a line of `json`",
        "listen[].lines.time_key": (
            "with `json`: the key of the time at which it was received; empty: not written"
        ),
        "listen[].lines.pid_key": (
            "the key of the sender's process, as the kernel knows it; empty: not written"
        ),
        "listen[].lines.uid_key": "the key of its user; empty: not written",
        "listen[].lines.stream_key": (
            "with `cri`: the key of `stdout` or `stderr`; empty: not written"
        ),
        "listen[].lines.message_key": "the key of the line itself",
        "listen[].lines.cri": (
            "lines are those of a container runtime (CRI): parts of long ones are joined"
        ),
        "listen[].lines.start_pattern": (
            "if set, a regular expression (RE2 syntax): a line that does not begin with a "
            "match belongs to the line before it"
        ),
        "listen[].lines.max_group_lines": (
            "of lines that are joined, or parts of one; at most 100,000"
        ),
        "listen[].lines.max_group_bytes": (
            "the same in bytes; no more than `max_record_bytes` counts, or, with `json`, a "
            "sixth of it less 2 KiB"
        ),
        "listen[].lines.max_group_wait": (
            "for how long the first of them waits for more; at most an hour"
        ),
        "listen[].lines.say_ok": (
            "whether the agent says `ok` before the end of file that acknowledges; for shell "
            "scripts"
        ),
        "wal.dir": (
            "directory of the write-ahead log; made when its parent exists. It must be on a "
            "local disk that keeps what was synced"
        ),
        "wal.file_bytes": "size of one file, preallocated",
        "wal.max_bytes": "of all files together; at least three times `file_bytes`",
        "wal.when_full": "`block`: clients wait; `reject`: an append is answered with an error",
        "wal.max_batch_bytes": (
            "of what is written and synced at once; at most an eighth of a file is used"
        ),
        "wal.max_pending_bytes": (
            "taken and not yet durable; beyond it nothing more is read from clients"
        ),
        "wal.max_producers": (
            "producers whose last id is remembered, to drop what they send twice; the least "
            "recent one is forgotten first"
        ),
        "wal.max_chunk_ids": (
            "chunks of protocol `forward` that are remembered, for the same reason; the "
            "oldest one is forgotten first"
        ),
        "wal.max_chunk_age": "for how long; at most 30 days",
        "flush.interval": "a stream is flushed when its oldest byte is this old",
        "flush.bytes": "a stream is flushed when it has so many bytes to flush",
        "flush.concurrency": "flushes at a time; one stream has at most one",
        "flush.block_size": (
            "data block size of new containers; a power of two from 4 KiB to 16 MiB"
        ),
        "flush.shutdown_timeout": "how long a stop may take to flush; the rest stays in the WAL",
        "flush.retry_min": "first pause after a failed flush",
        "flush.retry_max": "longest pause; flushes are tried for ever",
        "store.url": (
            "`s3://bucket/prefix`, `file:///directory`, or `file:./directory` below the "
            "directory in which the agent starts. Nothing in it is percent-decoded"
        ),
        "store.key": (
            "key of a stream's container below `url`; must contain `{stream}`. Two agents "
            "that write to one store need keys that differ, by `{node}`, best as a folder of "
            "its own (`{node}/…`)"
        ),
        "store.s3.region": "of the bucket; empty: as `AWS_REGION` or the AWS profile says",
        "store.s3.endpoint_url": "of an S3-compatible server",
        "store.s3.addressing": (
            "where the bucket's name stands: `path`, `virtual` (in the host name), or `auto`"
        ),
        "store.s3.profile": "of the shared AWS configuration",
        "store.s3.role_arn": (
            "a role to assume with the credentials that were found; it is assumed anew "
            "before that ends"
        ),
        "store.s3.external_id": "what the role's trust policy asks for; only with `role_arn`",
        "store.s3.sse": (
            "encryption of what is written: `AES256` or `aws:kms`; empty: the bucket's "
            "default. Not for directory buckets"
        ),
        "store.s3.sse_kms_key_id": (
            "key for `aws:kms`, by ARN or id; empty: the account's own for S3"
        ),
        "store.s3.sse_bucket_key": (
            "whether `aws:kms` goes by a key of the bucket, which makes fewer requests to "
            "the key service"
        ),
        "store.s3.storage_class": (
            "of checkpoint objects, never of the inode: `STANDARD`, `STANDARD_IA`, "
            "`ONEZONE_IA`, `INTELLIGENT_TIERING`, `GLACIER_IR`, `REDUCED_REDUNDANCY`; "
            "directory buckets: `EXPRESS_ONEZONE`. Archive classes are not taken: what is in "
            "them cannot be read"
        ),
        "store.s3.checksum": (
            "sent with every body for the server to check: `crc32`, `crc32c`, `sha256`; not "
            "every S3-compatible server takes them"
        ),
        "store.s3.ca_bundle": (
            "PEM file of the authorities to trust instead of the usual ones; empty: as "
            "`AWS_CA_BUNDLE` says"
        ),
        "store.s3.proxy": (
            "`http://host:port` for all requests, those for credentials of the security "
            "token service included; empty: as `HTTPS_PROXY` and `NO_PROXY` say"
        ),
        "store.s3.connect_timeout": "to reach the server",
        "store.s3.read_timeout": "without a byte coming or going",
        "store.s3.request_timeout": "for one request as a whole, looking for credentials included",
        "store.s3.multipart_threshold": "larger objects are uploaded in parts",
        "store.s3.part_bytes": "size of a part",
        "store.s3.part_concurrency": (
            "parts of one object that go up at a time. Connections and requests are at most "
            "`flush.concurrency` times this, at least 32 and at most 256"
        ),
        "http.listen": (
            "`host:port`, `[address]:port`, `:port` for every interface, or the path of a "
            "Unix socket (with a `/`); empty: no HTTP"
        ),
        "http.allowed_hosts": (
            "names by which the status page and `/api/` may be asked for, beside addresses, "
            "`localhost` and the host's own name; `*`: by any. `/metrics`, `/healthz` and "
            "`/readyz` answer to every name, without reasons to an unknown one"
        ),
        "log.level": "`debug`, `info`, `warning` or `error`",
        "log.format": "`console`, `json`, or `auto`: console on a terminal, json elsewhere",
    }
)
"""By dotted name; `listen[]` stands for every table of the array."""
