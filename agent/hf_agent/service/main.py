"""The process around the agent: event loop, signals, errors of the start, exit status."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import structlog
import uvloop

from hf_agent.clock import SystemClock, system_random
from hf_agent.config import Config, ConfigError, load
from hf_agent.ingest.listener import ListenerError
from hf_agent.logs import remember, set_level
from hf_agent.metrics import Metrics
from hf_agent.recent import RecentEvents
from hf_agent.service.agent import Agent
from hf_agent.service.exit_status import ExitStatus
from hf_agent.service.reload import changed_keys, merge, needs_restart
from hf_agent.store.base import StoreError
from hf_agent.wal import WalCorrupt, WalError, WalLocked, WalUnusable
from hf_agent.web.server import WebServerError

__all__ = ["run_agent"]

_log = structlog.get_logger(__name__)


def run_agent(config: Config, *, config_path: Path) -> int:
    """Run one agent on a loop of its own; returns the exit status."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return int(runner.run(_main(config, config_path)))


async def _main(config: Config, config_path: Path) -> ExitStatus:
    clock = SystemClock()
    events = RecentEvents(clock.time)
    remember(events)
    agent = Agent(config, clock=clock, rng=system_random(), metrics=Metrics(), events=events)
    signals = _Signals(agent, config_path)
    signals.install()
    try:
        status = await _start(agent)
        if status is None:
            status = await agent.run()
        await agent.stop(status)
    finally:
        signals.restore()
    _log.info("stopped", status=int(status))
    return status


async def _start(agent: Agent) -> ExitStatus | None:
    """Start the agent; None when it runs, else the status to end with, the reason being told."""
    try:
        await agent.start()
    except WalLocked as error:
        return _refuse(error, ExitStatus.WAL_LOCKED)
    except WalUnusable as error:
        return _refuse(error, ExitStatus.CONFIGURATION)
    except (WalCorrupt, WalError) as error:
        return _refuse(error, ExitStatus.WAL_DISK_FAILED)
    except (ListenerError, WebServerError, StoreError) as error:
        return _refuse(error, ExitStatus.CONFIGURATION)
    return None


def _refuse(error: Exception, status: ExitStatus) -> ExitStatus:
    print(f"hf-agent: {error}", file=sys.stderr)  # noqa: T201 - the one line for the operator
    return status


class _Signals:
    """TERM and INT stop (twice: at once), HUP reloads, USR1 flushes."""

    def __init__(self, agent: Agent, config_path: Path) -> None:
        self._agent = agent
        self._config_path = config_path
        self._stopping = False

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._stop, signal.SIGINT)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR1, self._flush)

    def restore(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        if self._stopping:
            _log.warning("second signal: stopped at once; what is not flushed stays in the WAL")
            # The WAL is made for this; the lock goes with the process.
            os._exit(128 + number)
        self._stopping = True
        _log.info("stopping", signal=number.name)
        self._agent.request_stop()

    def _flush(self) -> None:
        _log.info("flushing everything", signal="SIGUSR1")
        self._agent.flush_now()

    def _reload(self) -> None:
        self._agent.notifier.reloading(SystemClock().monotonic())
        try:
            self._take_over(load(self._config_path))
        except ConfigError as error:
            _log.error("configuration not reloaded, the old one stays", reason=str(error))
        finally:
            self._agent.notifier.ready()

    def _take_over(self, new: Config) -> None:
        agent = self._agent
        changed = changed_keys(agent.config, new)
        restart = needs_restart(changed)
        agent.reconfigure(merge(agent.config, new))
        set_level(agent.config.log.level)
        _log.info(
            "configuration reloaded",
            applied=[key for key in changed if key not in restart],
            needs_restart=restart,
        )
