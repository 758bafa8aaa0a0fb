"""The error codes of protocol `append`, and what each of them means for the connection."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FATAL", "RETRY", "ErrorCode", "ProtocolError"]


class ErrorCode(StrEnum):
    """What an `error` message says was wrong; `docs/append-protocol.md` explains each."""

    BAD_ACK = "bad_ack"
    BAD_ID = "bad_id"
    BAD_STREAM = "bad_stream"
    BAD_VERSION = "bad_version"
    FENCED = "fenced"
    FRAME_TOO_LARGE = "frame_too_large"
    IDLE_TIMEOUT = "idle_timeout"
    MALFORMED = "malformed"
    NOT_ALLOWED = "not_allowed"
    NO_BUFFER_SPACE = "no_buffer_space"
    NOT_HELLO = "not_hello"
    POSITION_MISMATCH = "position_mismatch"
    RECORD_TOO_LARGE = "record_too_large"
    SHUTTING_DOWN = "shutting_down"
    STREAM_NOT_ALLOWED = "stream_not_allowed"
    SUPERSEDED = "superseded"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_MANY_STREAMS = "too_many_streams"
    UNAUTHORIZED = "unauthorized"
    UNKNOWN_STREAM = "unknown_stream"
    UNSUPPORTED = "unsupported"
    WAL_FAILED = "wal_failed"
    WAL_FULL = "wal_full"


RETRY = frozenset(
    {
        ErrorCode.IDLE_TIMEOUT,
        ErrorCode.NO_BUFFER_SPACE,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.TOO_MANY_CONNECTIONS,
        ErrorCode.WAL_FAILED,
        ErrorCode.WAL_FULL,
    }
)
"""The connection ends; a new one may fare better, with everything unanswered sent again."""

FATAL = RETRY | frozenset(
    {
        ErrorCode.BAD_ID,
        ErrorCode.BAD_VERSION,
        ErrorCode.FENCED,
        ErrorCode.FRAME_TOO_LARGE,
        ErrorCode.MALFORMED,
        ErrorCode.NOT_ALLOWED,
        ErrorCode.NOT_HELLO,
        ErrorCode.SUPERSEDED,
    }
)
"""The connection ends. The other codes refuse one append or request, and it goes on."""


class ProtocolError(Exception):
    """The peer broke the protocol: `code` is fatal, nothing after it can be understood.

    `id` is the append's id, or the request's number, where there is one.
    """

    def __init__(self, code: ErrorCode, message: str, id: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id
