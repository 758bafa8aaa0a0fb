"""The handler for `logging`: bounded in time and memory, exactly once, and honest about losses."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_agent.client.logging_handler import AgentHandler
from support.agent_process import AgentProcess
from support.containers import read_container


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path / "a")
    yield process
    if process.process is not None and process.process.poll() is None:
        process.send(signal.SIGCONT)
    process.close()


def logger_with(handler: AgentHandler) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger


def stored(agent: AgentProcess, stream: str = "app") -> list[str]:
    assert agent.stop() == 0, agent.log_text()
    return asyncio.run(read_container(agent, f"node-1/{stream}")).decode().splitlines()


def test_records_of_many_threads_arrive_once_and_in_the_order_of_each(agent: AgentProcess) -> None:
    agent.start()
    handler = AgentHandler(agent.append_socket, "app", flush_timeout=60)
    logger = logger_with(handler)

    def log(thread: int) -> None:
        for number in range(500):
            logger.info("%d %d", thread, number)

    threads = [threading.Thread(target=log, args=(t,)) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.flush()
    assert (handler.acknowledged, handler.dropped) == (4000, 0)
    handler.close()
    logger.info("too late")
    assert handler.dropped == 1
    lines = [line.split() for line in stored(agent)]
    for t in range(8):
        assert [n for thread, n in lines if thread == str(t)] == [str(n) for n in range(500)]
    assert len(lines) == 4000


def test_an_agent_that_is_stopped_holds_nobody_up_and_is_told_what_is_missing(
    agent: AgentProcess,
) -> None:
    agent.start()
    handler = AgentHandler(
        agent.append_socket, "app", max_records=100, flush_timeout=0.05, warn_interval=0
    )
    logger = logger_with(handler)
    logger.info("before")
    while not handler.acknowledged:
        handler.flush()
    agent.send(signal.SIGSTOP)
    for number in range(1000):
        logger.info("%d", number)
    handler.flush()
    assert handler.acknowledged == 1
    assert handler.dropped == 900, "what is sent and not answered counts for the bound"
    agent.send(signal.SIGCONT)
    while handler.acknowledged < 101:
        handler.flush()
    logger.info("after")
    handler.close()
    lines = stored(agent)
    # One record or two say so: the first batch may have been taken while records were dropped.
    told = [line for line in lines if line.endswith("dropped: the queue for the agent was full")]
    assert sum(int(line.split()[0]) for line in told) == 900
    assert {*lines} - {*told} == {"before", *map(str, range(100)), "after"}
    assert len(lines) == 102 + len(told)
    assert [line for line in lines if line.isdigit()] == [str(n) for n in range(100)]


def test_a_killed_agent_gets_every_record_once_when_it_is_back(agent: AgentProcess) -> None:
    agent.start()
    handler = AgentHandler(agent.append_socket, "app", close_timeout=60)
    logger = logger_with(handler)
    for number in range(3000):
        logger.info("%d", number)
        if number % 1000 == 500:
            agent.kill()
            agent.start()
    handler.close()
    assert (handler.acknowledged, handler.dropped, handler.unconfirmed) == (3000, 0, 0)
    assert stored(agent) == [str(number) for number in range(3000)]


def test_without_an_agent_the_queue_is_bounded_in_bytes_and_close_in_time(tmp_path: Path) -> None:
    handler = AgentHandler(tmp_path / "none", "app", max_bytes=1000, close_timeout=0.05)
    logger = logger_with(handler)
    for _ in range(50):
        logger.info("x" * 99)
    assert handler.dropped == 40
    handler.close()
    handler.close()
    assert (handler.dropped, handler.acknowledged, handler.unconfirmed) == (50, 0, 0)


def test_a_call_that_may_wait_for_room_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    handler = AgentHandler(tmp_path / "none", "app", max_records=1, block=0.02, close_timeout=0.05)
    logger = logger_with(handler)
    logger.info("fits")
    threads = [threading.Thread(target=logger.info, args=("waits",)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert handler.dropped == 5
    handler.close()


def test_a_record_that_cannot_be_formatted_is_logging_s_own_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = AgentHandler(tmp_path / "none", "app", close_timeout=0.01)
    seen: list[logging.LogRecord] = []
    monkeypatch.setattr(handler, "handleError", seen.append)
    logger_with(handler).info("%d", "no number")
    assert len(seen) == 1
    handler.close()


def test_a_record_over_the_agents_limit_is_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path / "a", max_record_bytes="1KiB").start()
    try:
        handler = AgentHandler(agent.append_socket, "app", flush_timeout=60)
        logger = logger_with(handler)
        for text in ("1", "x" * 2000, "2"):
            logger.info(text)
        handler.close()
        assert (handler.acknowledged, handler.refused) == (2, 1)
        assert stored(agent) == ["1", "2"]
    finally:
        agent.close()


def test_what_is_logged_just_before_the_interpreter_ends_arrives(agent: AgentProcess) -> None:
    agent.start()
    script = f"""
import logging
from hf_agent.client.logging_handler import AgentHandler
logging.basicConfig(
    level="INFO", format="%(message)s", handlers=[AgentHandler({str(agent.append_socket)!r}, "app")]
)
for number in range(2000):
    logging.info("%d", number)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert stored(agent) == [str(number) for number in range(2000)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_logs_under_its_own_name_and_leaves_the_parents_records(
    agent: AgentProcess,
) -> None:
    agent.start()
    script = f"""
import logging, os
from hf_agent.client.logging_handler import AgentHandler
handler = AgentHandler({str(agent.append_socket)!r}, "app", close_timeout=30)
logging.basicConfig(level="INFO", format="%(message)s", handlers=[handler])
for number in range(500):
    logging.info("parent %d", number)
child = os.fork()
for number in range(500):
    logging.info("%s later %d", "parent" if child else "child", number)
handler.close()
assert not handler.dropped + handler.unconfirmed, vars(handler)
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)
    lines = stored(agent)
    assert len(lines) == 1500
    parent = [f"parent {n}" for n in range(500)] + [f"parent later {n}" for n in range(500)]
    assert [line for line in lines if line.startswith("parent")] == parent
    assert [line for line in lines if line.startswith("child")] == [
        f"child later {n}" for n in range(500)
    ]


def test_bad_arguments_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no stream name"):
        AgentHandler(tmp_path / "s", "/")
    with pytest.raises(ValueError, match="max_records=0"):
        AgentHandler(tmp_path / "s", "app", max_records=0)
