"""`check-config --probe`: tries what the agent will need, and leaves nothing behind.

A directory that the agent makes itself is not made here. The WAL is not opened: that could cut a
torn tail, and a check changes nothing. What the agent of this configuration has in use, since it
runs, is no fault.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hf_agent.cli.failures import explain
from hf_agent.cli.running_agent import RunningAgent
from hf_agent.cli.stores import run_async
from hf_agent.clock import SystemClock, system_random, ulid
from hf_agent.config import Config, Listen
from hf_agent.config.listen_address import TcpAddress, UnixAddress, parse_listen_address
from hf_agent.ingest.admission import Admission, UnknownAccount
from hf_agent.ingest.unix_socket import ListenerError, bind_unix_socket, unlink_if_ours
from hf_agent.service.exit_status import ExitStatus
from hf_agent.service.store_options import s3_options
from hf_agent.store.preflight import preflight
from hf_agent.store.url import open_store
from hf_agent.wal.errors import WalLocked

__all__ = ["Finding", "probe"]

_SCRATCH = ".hf-agent-preflight"
"""Folder of the scratch keys, below the store's URL; the same as that of the agent's start."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried."""

    what: str
    fault: str = ""
    """Empty when all is well."""
    status: int = 0
    """The exit status that the fault has."""
    note: str = ""
    """What is good to know, and no fault."""


class _Unfit(Exception):
    """What a probe found wrong."""


def probe(config: Config) -> Iterator[Finding]:
    """Try the WAL's directory, every socket and the store, in this order."""
    agent = _agent_that_runs(config)
    yield _try(f"WAL {config.wal.dir}", ExitStatus.CONFIGURATION, partial(_wal, config), agent)
    for listen in config.listen:
        attempt = partial(_socket, config, listen)
        has_it = agent if agent and agent.listens_on(UnixAddress(listen.path)) else None
        yield _try(f"socket {listen.path}", ExitStatus.CONFIGURATION, attempt, has_it)
    if address := parse_listen_address(config.http.listen):
        has_it = agent if agent and agent.listens_on(address) else None
        yield _try(f"HTTP {address}", ExitStatus.CONFIGURATION, partial(_http, address), has_it)
    yield _try(
        f"store {config.store.url}", ExitStatus.STORE_UNAVAILABLE, lambda: run_async(_store(config))
    )


def _try(
    what: str, status: int, attempt: Callable[[], None], has_it: RunningAgent | None = None
) -> Finding:
    """`has_it`: the agent that has in use what is tried."""
    try:
        attempt()
    except Exception as error:
        if has_it and _in_use(error):
            return Finding(what, note=f"in use by the agent that runs here pid={has_it.pid}")
        if isinstance(error, _Unfit):
            return Finding(what, str(error), status)
        failure = explain(error)
        # An error that has a status of its own (a lock, a store) says more than the place of it.
        own = failure.status if failure.status != ExitStatus.FAILED else status
        return Finding(what, "; ".join(failure.lines), own)
    return Finding(what)


def _in_use(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, WalLocked):
            return True
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            return True
        error = error.__cause__
    return False


def _agent_that_runs(config: Config) -> RunningAgent | None:
    """The agent of this configuration, if it runs."""
    try:
        _wal(config)
    except WalLocked as error:
        agent = RunningAgent.of(error.pid)
    except (_Unfit, OSError):
        return None  # what is wrong is told when it is tried
    else:
        return None
    addresses: list[TcpAddress | UnixAddress] = [UnixAddress(each.path) for each in config.listen]
    if address := parse_listen_address(config.http.listen):
        addresses.append(address)
    return agent if any(map(agent.listens_on, addresses)) else None


def _wal(config: Config) -> None:
    from hf_agent.wal.disk import OsDisk
    from hf_agent.wal.lock import take_lock

    directory = Path(config.wal.dir)
    if not directory.exists():
        _can_be_made(directory, config)
        return
    if not directory.is_dir():
        raise _Unfit(f"not a directory: move it away, or change wal.dir path={directory}")
    _writable(directory)
    take_lock(OsDisk(), directory)  # given back at once: nobody holds what it returns


def _socket(config: Config, listen: Listen) -> None:
    try:
        Admission(listen)
    except UnknownAccount as error:
        raise _Unfit(str(error)) from error
    directory = Path(listen.path).parent
    if not directory.exists():
        _can_be_made(directory, config)
        return
    datagrams = listen.protocol == "syslog" and listen.syslog.socket == "datagram"
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    try:
        bound, place = bind_unix_socket(
            listen.path, mode=listen.mode, owner=listen.owner, group=listen.group, kind=kind
        )
    except ListenerError as error:
        raise _Unfit(str(error)) from error
    bound.close()
    unlink_if_ours(listen.path, place)


def _http(address: TcpAddress | UnixAddress) -> None:
    from hf_agent.web.errors import WebServerError
    from hf_agent.web.sockets import open_sockets

    try:
        open_sockets(address).close()
    except WebServerError as error:
        raise _Unfit(str(error)) from error


async def _store(config: Config) -> None:
    clock, rng = SystemClock(), system_random()
    options = s3_options(config.store.s3, config.flush)
    store = open_store(config.store.url, options=options, clock=clock, rng=rng)
    try:
        await preflight(store, f"{_SCRATCH}/{ulid(clock, rng)}")
    finally:
        await store.close()


def _can_be_made(directory: Path, config: Config) -> None:
    """The agent makes its data directory, and the WAL's; nothing above them."""
    own = {Path(config.agent.data_dir), Path(config.wal.dir)}
    missing = directory.absolute()
    while missing in own and not missing.parent.exists():
        missing = missing.parent
    if missing not in own:
        raise _Unfit(f"the directory does not exist: create it path={missing}")
    _writable(missing.parent)


def _writable(directory: Path) -> None:
    if not os.access(directory, os.W_OK | os.X_OK):
        raise _Unfit(f"not writable for this user: change its owner or mode path={directory}")
