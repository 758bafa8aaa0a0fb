"""What an S3 request is about, read off its method, path, query and headers."""

from __future__ import annotations

from enum import Enum

from support.s3_servers.messages import Request

__all__ = ["Operation", "operation_of"]


class Operation(Enum):
    """The operations that faults and rules tell apart."""

    GET = "get"
    HEAD = "head"
    PUT = "put"
    CONDITIONAL_PUT = "conditional-put"
    DELETE = "delete"
    LIST = "list"
    START_MULTIPART = "start-multipart"
    UPLOAD_PART = "upload-part"
    COMPLETE_MULTIPART = "complete-multipart"
    ABORT_MULTIPART = "abort-multipart"
    LIST_MULTIPART = "list-multipart"
    CREATE_SESSION = "create-session"
    OTHER = "other"


def operation_of(request: Request) -> Operation:
    """The operation of a path-style request."""
    query, of_object = request.query, bool(request.key)
    match request.method:
        case "GET" if not of_object:
            if "session" in query:
                return Operation.CREATE_SESSION
            if "uploads" in query:
                return Operation.LIST_MULTIPART
            return Operation.LIST
        case "GET":
            return Operation.GET
        case "HEAD" if of_object:
            return Operation.HEAD
        case "PUT" if of_object and "partNumber" in query:
            return Operation.UPLOAD_PART
        case "PUT" if of_object:
            conditional = {"if-match", "if-none-match"} & request.headers.keys()
            return Operation.CONDITIONAL_PUT if conditional else Operation.PUT
        case "POST" if "uploads" in query:
            return Operation.START_MULTIPART
        case "POST" if "uploadId" in query:
            return Operation.COMPLETE_MULTIPART
        case "DELETE" if "uploadId" in query:
            return Operation.ABORT_MULTIPART
        case "DELETE" if of_object:
            return Operation.DELETE
    return Operation.OTHER
