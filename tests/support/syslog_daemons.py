"""Syslog daemons from Debian, which read datagrams from a socket and relay them to an agent's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.agent_process import AgentProcess

__all__ = ["DAEMONS", "TABLES", "Daemon"]

RSYSLOGD = os.environ.get("HF_AGENT_RSYSLOGD") or shutil.which("rsyslogd")
SYSLOG_NG = os.environ.get("HF_AGENT_SYSLOG_NG") or shutil.which("syslog-ng")

TABLES = {
    "stream.sock": 'stream = "stream"',
    "datagram.sock": 'stream = "datagram"\nmode = "0666"\n[listen.syslog]\nsocket = "datagram"',
}
"""The agent's sockets that they write to, one of each kind (see `AgentProcess`)."""


class Daemon:
    """A process that is started, killed and started again over the same files."""

    def __init__(self, command: list[str], source: Path) -> None:
        self._command = command
        self.source = source
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.source.unlink(missing_ok=True)
        with self.source.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + 60
        while not self.source.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        return process

    def send(self, first: int, behind: int) -> None:
        """Numbered messages; waits while its queue is full."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.connect(str(self.source))
            for number in range(first, behind):
                sending.send(b"<14>Oct 11 22:14:15 web[1]: number %06d." % number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Once more, after `kill`."""
        self.process = self._start()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()


def rsyslog(agent: AgentProcess, folder: Path, *, on_disk: bool = False) -> Daemon:
    """With `on_disk` its queue is in files, each message synced before it is relayed."""
    assert RSYSLOGD is not None
    source = folder / "rsyslog.in"
    config = folder / "rsyslog.conf"
    queue = (
        f"""
global(workDirectory="{folder}")
main_queue(queue.type="Disk" queue.filename="main" queue.syncQueueFiles="on"
  queue.checkpointInterval="1" queue.dequeueBatchSize="1")
"""
        if on_disk
        else ""
    )
    config.write_text(
        f"""{queue}
module(load="imuxsock" SysSock.Use="off")
module(load="omuxsock")
input(type="imuxsock" Socket="{source}" RateLimit.Interval="0" UseSysTimeStamp="off"
  IgnoreTimestamp="off")
template(name="out" type="string" string="<%PRI%>%TIMESTAMP% %HOSTNAME% %syslogtag%%msg%")
$ActionResumeRetryCount -1
$ActionResumeInterval 1
$OMUxSockSocket {agent.folder}/datagram.sock
*.* :omuxsock:;out
"""
    )
    command = [RSYSLOGD, "-n", "-f", str(config), "-i", str(folder / "rsyslog.pid")]
    modules = sorted(Path(RSYSLOGD).parents[1].glob("lib/*/rsyslog"))
    if modules and not str(modules[0]).startswith("/usr/lib"):
        command += ["-M", str(modules[0])]
    return Daemon(command, source)


def syslog_ng(agent: AgentProcess, folder: Path) -> Daemon:
    assert SYSLOG_NG is not None
    source = folder / "syslog-ng.in"
    config = folder / "syslog-ng.conf"
    config.write_text(
        f"""
@version: 3.38
options {{ keep-hostname(yes); time-reopen(1); stats-freq(0); }};
source s {{ unix-dgram("{source}"); }};
destination d {{ unix-stream("{agent.folder}/stream.sock"); }};
log {{ source(s); destination(d); flags(flow-control); }};
"""
    )
    command = [SYSLOG_NG, "--foreground", "--no-caps", "-f", str(config)]
    command += [f"--{name}={folder / name}" for name in ("persist-file", "pidfile", "control")]
    return Daemon(command, source)


Make = Callable[..., Daemon]

DAEMONS = [
    pytest.param(
        rsyslog,
        "datagram",
        id="rsyslog",
        marks=pytest.mark.skipif(not RSYSLOGD, reason="rsyslogd is not installed"),
    ),
    pytest.param(
        syslog_ng,
        "stream",
        id="syslog-ng",
        marks=pytest.mark.skipif(not SYSLOG_NG, reason="syslog-ng is not installed"),
    ),
]
