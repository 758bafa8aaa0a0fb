"""What keeps the HTTP server from listening."""

from __future__ import annotations

import errno
import os

__all__ = ["WebServerError", "listen_error"]

_ADVICE = {
    errno.EADDRINUSE: "another process listens there: stop it, or change http.listen",
    errno.EADDRNOTAVAIL: "this host has no such address: change http.listen",
    errno.EACCES: "not permitted: choose a port above 1023",
}


class WebServerError(Exception):
    """The address cannot be listened on; a fault of the configuration, or of its surroundings."""


def listen_error(address: object, error: OSError) -> WebServerError:
    """One line of what happened, where, and what to do."""
    number = error.errno or 0
    advice = _ADVICE.get(number, "change http.listen")
    reason = os.strerror(number) if number > 0 else str(error)
    return WebServerError(f"cannot serve HTTP: {reason.lower()}; {advice} listen={address}")
