"""`status` on a terminal, against a real agent: one look, and the view that goes on."""

from __future__ import annotations

import io
import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from hf_agent.cli.main import main
from hf_agent.cli.status import look as looks
from hf_agent.cli.status.http import AgentHttp
from hf_agent.cli.status.watch import Watch
from hf_agent.client import Client
from hf_agent.clock import SystemClock
from support.agent_process import AgentProcess
from support.terminal import Terminal

ALTERNATE, BACK = "\x1b[?1049h", "\x1b[?1049l"
CURSOR_BACK = "\x1b[?25h"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    """One that a test may do anything to."""
    agent = AgentProcess(tmp_path / "agent", flush='interval = "200ms"\nretry_max = "1s"')
    yield agent
    agent.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """One that goes on running: each test has streams of its own."""
    agent = AgentProcess(tmp_path_factory.mktemp("agent")).start()
    yield agent
    assert agent.stop() == 0, agent.log_text()


def append(agent: AgentProcess, stream: str, nbytes: int, *, flush: bool = True) -> None:
    with Client(str(agent.append_socket)) as client:
        client.append(stream, bytes(nbytes))
        client.wait_acknowledged()
        if flush:
            client.flush(stream)


def row(screen: str, stream: str) -> list[str]:
    """Cells of a stream's row; none while it has none."""
    found = [line for line in screen.splitlines() if line.startswith(f"{stream} ")]
    return re.split(r"\s{2,}", found[0].strip()) if found else []


def test_one_look_is_a_table_that_stays_on_the_terminal(running: AgentProcess) -> None:
    append(running, "apps/web", 5000)
    with Terminal("status", "--socket", str(running.append_socket)) as terminal:
        assert terminal.end() == 0
    assert ALTERNATE not in terminal.written
    assert "node-1  running, taking appends" in terminal.screen
    head = ["STREAM", "RECEIVED", "FLUSHED", "LAG", "AGE", "LAST FLUSH", "ERROR"]
    assert row(terminal.screen, "STREAM") == head
    cells = row(terminal.screen, "apps/web")
    assert cells[:5] == ["apps/web", "4.9 KiB", "4.9 KiB", "-", "-"]
    assert cells[5].endswith(" ago")
    assert re.search(
        r"^append +\d+ connections, \d+ records received, \d+ ack", terminal.screen, re.M
    )
    assert re.search(r"^WAL +ok .*% of 8.0 GiB", terminal.screen, re.M)


def test_watch_follows_the_agent_until_ctrl_c_and_gives_the_terminal_back(
    running: AgentProcess,
) -> None:
    append(running, "busy", 2048)
    with Terminal("status", "--socket", str(running.append_socket), "--watch=0.1") as terminal:
        terminal.wait_for(lambda screen: row(screen, "busy")[1:2] == ["2.0 KiB"])
        append(running, "busy", 2048)
        append(running, "other", 10)
        terminal.wait_for(lambda screen: row(screen, "busy")[1:3] == ["4.0 KiB", "4.0 KiB"])
        terminal.wait_for(lambda screen: bool(row(screen, "other")))
        terminal.wait_for("RATE")
        terminal.press(b"\x03")
        assert terminal.end() == 130
    assert terminal.written.index(ALTERNATE) < terminal.written.index(BACK)
    assert CURSOR_BACK in terminal.written[terminal.written.index(BACK) - 20 :]
    assert "Traceback" not in terminal.written


def test_watch_ended_by_a_signal_gives_the_terminal_back_too(running: AgentProcess) -> None:
    with Terminal("status", "--socket", str(running.append_socket), "--watch") as terminal:
        terminal.wait_for("node-1  running")
        terminal.process.terminate()
        assert terminal.end() == 128 + signal.SIGTERM
    assert BACK in terminal.written


def test_watch_is_drawn_anew_when_the_terminal_changes_its_size(running: AgentProcess) -> None:
    for index in range(12):
        append(running, f"stream-{index:02}", 100)
    # It would not look again for an hour.
    with Terminal(
        "status", "--socket", str(running.append_socket), "--watch", "3600", rows=16
    ) as terminal:
        small = terminal.wait_for(lambda screen: screen.count("\n") == 15)
        assert 1 <= small.count("stream-") < 12
        terminal.resize(100, 40)
        terminal.wait_for(lambda screen: screen.count("stream-") == 12)
        terminal.resize(100, 16)
        terminal.wait_for(lambda screen: screen.count("\n") == 15)
        terminal.press(b"\x03")
        assert terminal.end() == 130


def test_watch_says_when_the_agent_is_gone_and_goes_on_when_it_is_back(
    agent: AgentProcess,
) -> None:
    agent.start()
    append(agent, "kept", 1024)
    with Terminal("status", "--socket", str(agent.append_socket), "--watch=0.1") as terminal:
        terminal.wait_for(lambda screen: bool(row(screen, "kept")))
        agent.kill()
        # What was seen last stays.
        gone = terminal.wait_for(
            lambda screen: "no answer since" in screen and bool(row(screen, "kept"))
        )
        assert "trying again: cannot reach the agent: " in gone
        agent.start()
        append(agent, "new", 10)
        back = terminal.wait_for(lambda screen: bool(row(screen, "new")))
        assert "no answer" not in back
        terminal.press(b"\x03")
        assert terminal.end() == 130


def test_what_was_seen_stays_when_the_agent_ends_between_two_questions(
    agent: AgentProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.start()
    append(agent, "kept", 1024)
    watched = Watch(looks.Agent(str(agent.append_socket), None, 5.0), SystemClock())
    watched.look()
    ask = looks._ask_http

    def ask_too_late(http: AgentHttp) -> looks.Look:
        agent.kill()
        return ask(http)

    monkeypatch.setattr(looks, "_ask_http", ask_too_late)
    watched.look()
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(watched.draw(40))
    screen = console.export_text()
    assert "no answer since" in screen
    assert row(screen, "kept")


def test_watch_waits_for_an_agent_that_does_not_run_yet(agent: AgentProcess) -> None:
    with Terminal("status", "--socket", str(agent.append_socket), "--watch=0.1") as terminal:
        terminal.wait_for("no answer since")
        agent.start()
        terminal.wait_for("node-1  running")


def test_a_store_that_takes_nothing_is_seen_with_the_streams_it_concerns(
    agent: AgentProcess,
) -> None:
    agent.start()
    append(agent, "one", 100)
    store = agent.folder / "store"
    store.rename(agent.folder / "moved")
    store.write_text("a file stands where the store was")
    with Terminal("status", "--config", str(agent.config), "--watch=0.1", columns=200) as terminal:
        append(agent, "one", 50, flush=False)
        screen = terminal.wait_for(lambda screen: len(row(screen, "one")) > 7)
        cells = row(screen, "one")
        assert cells[1:4] == ["150 B", "100 B", "50 B"]
        terminal.wait_for("LAST WARNINGS AND ERRORS")
        terminal.wait_for("node-1  running, not ready")
        store.unlink()
        (agent.folder / "moved").rename(store)
        terminal.wait_for(lambda screen: row(screen, "one")[1:4] == ["150 B", "150 B", "-"])
        terminal.wait_for("running, taking appends ")


def test_without_http_there_are_the_sums_and_why_there_is_no_more(agent: AgentProcess) -> None:
    agent.edit_config(agent.http, "")
    agent.start()
    append(agent, "one", 10)
    with Terminal("status", "--socket", str(agent.append_socket), "--watch=0.1") as terminal:
        screen = terminal.wait_for("(streams: 1)")
        assert "no streams, rates and errors: the agent has no HTTP server" in screen


def test_http_alone_is_enough(running: AgentProcess) -> None:
    append(running, "one", 10)
    with Terminal("status", "--http", str(running.http)) as terminal:
        assert terminal.end() == 0
    assert row(terminal.screen, "one")[1:3] == ["10 B", "10 B"]


def test_another_agent_at_the_address_is_not_taken_for_this_one(
    running: AgentProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = looks.ask_socket(str(running.append_socket), 60)
    seen = looks.Agent(str(running.append_socket), None, 60).look()
    assert (seen.unknown, seen.overview is None) == ("", False)
    # As an agent in a container, whose 127.0.0.1 is another.
    monkeypatch.setattr(looks, "ask_socket", lambda *_: {**told, "started_timestamp": 1.0})
    seen = looks.Agent(str(running.append_socket), None, 60).look()
    assert seen.unknown.endswith(f"another agent is at http={running.http}")
    assert seen.overview is None


def test_a_pipe_gets_names_and_values_once_whatever_was_asked_for(
    running: AgentProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--config", str(running.config))
    assert main(["status", *where]) == 0
    plain = capsys.readouterr().out
    assert main(["status", *where, "--watch"]) == 0
    assert capsys.readouterr().out == plain
    assert plain.startswith("version")
    assert f"\nhttp                   {running.http}\n" in plain
    assert main(["status", "--http", running.http, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["node"] == "node-1"


def test_a_terminal_that_cannot_move_its_cursor_gets_one_look(running: AgentProcess) -> None:
    with Terminal(
        "status", "--socket", str(running.append_socket), "--watch", term="dumb"
    ) as terminal:
        assert terminal.end() == 0
    assert "node-1  running" in terminal.written
    assert "\x1b" not in terminal.written


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ((), "missing option --socket, --http or --config"),
        (("--http", "9477"), "invalid value for '--http': not an address"),
        (("--socket", "x", "--json", "--watch"), "--json is one answer: leave out --watch"),
        (("--socket", "x", "--watch=0"), "invalid value for '--watch': 0.0 is not in the range"),
    ],
)
def test_a_usage_that_is_none_says_what_is(
    args: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", *args]) == 64
    assert capsys.readouterr().err.startswith(f"hf-agent: {line}")


def test_an_agent_that_nobody_can_ask_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[[listen]]\npath = "{tmp_path}/a"\nprotocol = "lines"\nstream = "a"\n'
        f'[store]\nurl = "file://{tmp_path}/s"\n[http]\nlisten = ""\n'
    )
    assert main(["status", "--config", str(config)]) == 64
    assert "it has no socket of protocol append, and no HTTP" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "its answer is not JSON"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status=404 path=/api/status"),
        (b"SSH-2.0\r\n", "cannot be asked over HTTP"),
        (b"", "cannot be asked over HTTP"),
    ],
)
def test_what_is_no_agent_is_one_line(
    answer: bytes, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert main(["status", "--http", address]) == 1
        thread.join()
    error = capsys.readouterr().err
    assert line in error
    assert f"http={address}" in error
    assert len(error.splitlines()) == 1


def test_a_server_that_says_nothing_is_given_up_in_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert main(["status", "--http", f"http://{address}/", "--timeout", "0.2"]) == 1
    assert f"does not answer in time http={address} seconds=0.2" in capsys.readouterr().err
