"""Which label `reason` a refusal is counted under in `rejected_records_total`."""

from __future__ import annotations

from typing import Final

from hf_agent.ingest.append_errors import ErrorCode

__all__ = ["INCOMPLETE", "REASONS"]

REASONS: Final = {
    ErrorCode.BAD_ACK: "malformed",
    ErrorCode.BAD_ID: "malformed",
    ErrorCode.BAD_STREAM: "bad_stream",
    ErrorCode.BAD_VERSION: "malformed",
    ErrorCode.FENCED: "fenced",
    ErrorCode.FRAME_TOO_LARGE: "too_large",
    ErrorCode.MALFORMED: "malformed",
    ErrorCode.NOT_HELLO: "malformed",
    ErrorCode.NO_BUFFER_SPACE: "no_buffer_space",
    ErrorCode.POSITION_MISMATCH: "position_mismatch",
    ErrorCode.RECORD_TOO_LARGE: "too_large",
    ErrorCode.STREAM_NOT_ALLOWED: "stream_not_allowed",
    ErrorCode.TOO_MANY_STREAMS: "too_many_streams",
    ErrorCode.UNAUTHORIZED: "unauthorized",
    ErrorCode.UNSUPPORTED: "unsupported",
    ErrorCode.WAL_FAILED: "wal_failed",
    ErrorCode.WAL_FULL: "wal_full",
}
"""A code that is not here refuses no record."""

INCOMPLETE: Final = "incomplete"
"""The connection ended inside a message."""
