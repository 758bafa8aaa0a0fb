"""`check-config --probe`: tries what the agent will need, and leaves nothing behind.

A directory that the agent makes itself is not made here. The WAL is not opened: that could cut a
torn tail, and a check changes nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hf_agent.cli.failures import explain
from hf_agent.cli.stores import run_async
from hf_agent.clock import SystemClock, system_random, ulid
from hf_agent.config import Config, Listen
from hf_agent.config.listen_address import parse_listen_address
from hf_agent.ingest.admission import Admission, UnknownAccount
from hf_agent.ingest.unix_socket import ListenerError, bind_unix_socket, unlink_if_ours
from hf_agent.service.exit_status import ExitStatus
from hf_agent.service.store_options import s3_options
from hf_agent.store.preflight import preflight
from hf_agent.store.url import open_store

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


class _Unfit(Exception):
    """What a probe found wrong."""


def probe(config: Config) -> Iterator[Finding]:
    """Try the WAL's directory, every socket and the store, in this order."""
    yield _try(f"WAL {config.wal.dir}", ExitStatus.CONFIGURATION, partial(_wal, config))
    for listen in config.listen:
        yield _try(
            f"socket {listen.path}", ExitStatus.CONFIGURATION, partial(_socket, config, listen)
        )
    if config.http.listen:
        yield _try(f"HTTP {config.http.listen}", ExitStatus.CONFIGURATION, partial(_http, config))
    yield _try(
        f"store {config.store.url}", ExitStatus.STORE_UNAVAILABLE, lambda: run_async(_store(config))
    )


def _try(what: str, status: int, attempt: Callable[[], None]) -> Finding:
    try:
        attempt()
    except _Unfit as error:
        return Finding(what, str(error), status)
    except Exception as error:
        failure = explain(error)
        # An error that has a status of its own (a lock, a store) says more than the place of it.
        own = failure.status if failure.status != ExitStatus.FAILED else status
        return Finding(what, "; ".join(failure.lines), own)
    return Finding(what)


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


def _http(config: Config) -> None:
    from hf_agent.web.errors import WebServerError
    from hf_agent.web.sockets import open_sockets

    address = parse_listen_address(config.http.listen)
    assert address is not None
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
