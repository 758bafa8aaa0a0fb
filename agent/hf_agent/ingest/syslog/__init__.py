"""Protocol `syslog` without I/O: framing, messages, and what they become in their streams."""
