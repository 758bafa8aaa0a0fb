"""What the numbers of a syslog priority are called."""

from __future__ import annotations

from typing import Final

__all__ = ["FACILITIES", "MAX_PRIORITY", "SEVERITIES"]

FACILITIES: Final = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news"),
    *("uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock"),
    *("local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
)
"""RFC 5424 table 1, in the words of syslog.conf(5); those between 12 and 15 after what it says."""

SEVERITIES: Final = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""RFC 5424 table 2."""

MAX_PRIORITY: Final = 191
"""`local7.debug`."""
