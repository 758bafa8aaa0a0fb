"""What the directory store makes of a failed system call: try again, or tell an operator."""

from __future__ import annotations

import errno

from hf_agent.store.base import StoreError, StoreRefused, StoreRetry
from hf_agent.store.observer import coded

__all__ = ["errno_name", "store_error"]

_REFUSED = {
    errno.EACCES: "let the user of this process read and write there",
    errno.EPERM: "the file system or a policy forbids it: use one with hard links",
    errno.EROFS: "mount the file system writable",
    errno.ENOTDIR: "a file stands where a directory is needed: move it away",
    errno.EISDIR: "a directory stands where the object should be: move it away",
    errno.ENAMETOOLONG: "use a shorter root or key",
    errno.ELOOP: "symbolic links run in a circle: mend them",
    errno.EOPNOTSUPP: "use a file system with hard links and flock",
    errno.ENOSYS: "use a file system with hard links and flock",
    errno.EXDEV: "keep each directory of the store on one file system",
    errno.EFBIG: "raise the file size limit of this process",
    errno.EINVAL: "use a file system with hard links and flock",
}
"""Errors that stay until somebody does something, with what to do."""

_RETRY = {
    errno.ENOSPC: "free space on it",
    errno.EDQUOT: "free space or raise the quota",
    errno.EIO: "look for disk errors in the kernel log",
    errno.ESTALE: "the server of this file system lost the file: is it exported anew?",
    errno.ETIMEDOUT: "is the server of this file system reachable?",
    errno.EMFILE: "raise the limit of open files",
    errno.ENFILE: "raise the system's limit of open files",
    errno.ENOLCK: "is the lock service of this file system running?",
    errno.ENOENT: "is somebody else removing directories there?",
}
"""What helps with errors that may pass by themselves; those not in either table may pass too."""


def errno_name(error: OSError) -> str:
    """The symbolic name, "ENOSPC"; the exception's own name where there is no number."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def store_error(operation: str, path: str, error: OSError) -> StoreError:
    """The store error for a failed call on `path`; chain it to `error` when raising."""
    number = error.errno or 0
    refused = _REFUSED.get(number)
    advice = refused or _RETRY.get(number, "it is tried again")
    reason = (error.strerror or str(error)).lower()
    kind = StoreRefused if refused else StoreRetry
    code = errno_name(error)
    return coded(
        kind(f"{operation} failed: {reason}; {advice} path={path!r} error={code}"),
        code,
    )
