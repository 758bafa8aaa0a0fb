"""`check-config --probe`: what it finds, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_agent.cli.main import main
from hf_agent.wal.disk import OsDisk
from hf_agent.wal.lock import take_lock
from support.agent_process import AgentProcess


class Setup:
    """A configuration in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._capsys = capsys
        self._path = folder / "agent.toml"
        self.write()

    def write(self, *, socket: str = "data/a.sock", extra: str = "", http: str = "") -> None:
        self._path.write_text(
            f'[agent]\ndata_dir = "{self.data}"\n'
            f'[[listen]]\npath = "{self.folder}/{socket}"\n{extra}\n'
            f'[store]\nurl = "file://{self.folder}/store"\n[http]\nlisten = "{http}"\n'
        )

    def probe(self) -> tuple[int, dict[str, str]]:
        """Exit status, and what failed: the first word of what was tried, and its fault."""
        status = main(["check-config", "--probe", "--json", "--config", str(self._path)])
        out, err = self._capsys.readouterr()
        assert err == ""
        found = json.loads(out)
        assert [each["what"].split()[0] for each in found][:3] == ["configuration", "WAL", "socket"]
        assert all(each["ok"] == (not each["fault"]) for each in found)
        return status, {each["what"].split()[0]: each["fault"] for each in found if each["fault"]}


@pytest.fixture
def setup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Setup:
    return Setup(tmp_path, capsys)


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_fresh_machine_passes_and_no_file_stays(setup: Setup) -> None:
    setup.write(http="127.0.0.1:0")
    assert setup.probe() == (0, {})
    assert everything_below(setup.folder) == ["agent.toml", "store"]


def test_directories_that_are_there_pass_and_keep_what_they_hold(setup: Setup) -> None:
    (setup.data / "wal").mkdir(parents=True)
    (setup.data / "wal" / "lock").touch()
    assert setup.probe() == (0, {})
    assert [name for name in everything_below(setup.folder) if name.endswith(".sock")] == []


def test_a_wal_that_another_process_holds_ends_with_75(setup: Setup) -> None:
    (setup.data / "wal").mkdir(parents=True)
    lock = take_lock(OsDisk(), setup.data / "wal")
    status, faults = setup.probe()
    assert status == 75
    assert "held by process" in faults["WAL"]
    del lock
    assert setup.probe() == (0, {})


def test_a_missing_parent_directory_ends_with_78_and_is_named(setup: Setup) -> None:
    setup.data = setup.folder / "no" / "data"
    setup.write(socket="nowhere/a.sock")
    status, faults = setup.probe()
    assert status == 78
    assert faults == {
        "WAL": f"the directory does not exist: create it path={setup.folder}/no",
        "socket": f"the directory does not exist: create it path={setup.folder}/nowhere",
    }


def test_a_wal_path_that_is_a_file_ends_with_78(setup: Setup) -> None:
    setup.data.mkdir()
    (setup.data / "wal").write_text("")
    status, faults = setup.probe()
    assert status == 78
    assert "not a directory" in faults["WAL"]


def test_a_socket_in_use_ends_with_78(setup: Setup) -> None:
    setup.data.mkdir()
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(setup.data / "a.sock"))
        live.listen()
        status, faults = setup.probe()
        assert (setup.data / "a.sock").exists()
    assert status == 78
    assert "in use by a running process" in faults["socket"]


def test_a_group_that_does_not_exist_is_found(setup: Setup) -> None:
    setup.data.mkdir()
    setup.write(extra='group = "no-such-group"')
    status, faults = setup.probe()
    assert status == 78
    assert "no-such-group" in faults["socket"]


def test_a_port_in_use_ends_with_78(setup: Setup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        setup.write(http=f"127.0.0.1:{taken.getsockname()[1]}")
        status, faults = setup.probe()
    assert status == 78
    assert "another process listens there" in faults["HTTP"]


def test_a_store_that_cannot_be_written_ends_with_69(setup: Setup) -> None:
    (setup.folder / "store").write_text("a file stands there")
    status, faults = setup.probe()
    assert status == 69
    assert set(faults) == {"store"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_of_somebody_else_ends_with_78(setup: Setup) -> None:
    setup.folder.chmod(0o555)
    status, faults = setup.probe()
    setup.folder.chmod(0o755)
    assert status == 78
    assert "not writable" in faults["WAL"]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    agent = AgentProcess(
        tmp_path / "agent",
        syslog={"datagram.sock": 'stream = "syslog"\n[listen.syslog]\nsocket = "datagram"'},
    )
    yield agent
    agent.close()


def tried(
    agent: AgentProcess, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit status, and what was found, by what was tried."""
    status = main(["check-config", "--probe", "--json", "--config", str(agent.config)])
    return status, {each["what"]: each for each in json.loads(capsys.readouterr().out)}


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", ""])
def test_beside_its_running_agent_all_is_well_and_the_agent_is_named(
    agent: AgentProcess, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    http = f"{host}:{free_port(host)}"
    agent.edit_config(agent.http, http)
    agent.start()
    sockets = {path: path.lstat().st_ino for path in agent.folder.glob("*.sock")}
    status, found = tried(agent, capsys)
    assert status == 0, found
    note = f"in use by the agent that runs here pid={agent.pid}"
    assert {what.split("/")[-1]: each["note"] for what, each in found.items()} == {
        "agent.toml": "",
        "wal": note,
        "append.sock": note,
        "lines.sock": note,
        "forward.sock": note,
        "datagram.sock": note,
        f"HTTP {http}": note,
        "store": "",
    }
    assert {path: path.lstat().st_ino for path in agent.folder.glob("*.sock")} == sockets
    assert main(["check-config", "--probe", "--config", str(agent.config)]) == 0
    shown = capsys.readouterr()
    assert f"WAL {agent.wal_dir}: ok: {note}\n" in shown.out
    assert shown.err == ""
    assert agent.stop() == 0


def free_port(host: str) -> int:
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        with socket.create_server((host.strip("[]"), 0), family=family) as free:
            port: int = free.getsockname()[1]
            return port
    except OSError as error:
        pytest.skip(f"cannot listen on {host!r} here: {error}")


def test_another_program_on_an_address_is_a_fault_also_beside_the_agent(
    agent: AgentProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    agent.start()
    # As after an edit that the agent has not been restarted for.
    stranger = agent.folder / "stranger.sock"
    with (
        socket.socket(socket.AF_UNIX) as taken,
        socket.create_server(("127.0.0.1", 0)) as port,
    ):
        taken.bind(str(stranger))
        taken.listen()
        http = f"127.0.0.1:{port.getsockname()[1]}"
        agent.edit_config(agent.http, http)
        agent.edit_config(str(agent.lines_socket), str(stranger))
        status, found = tried(agent, capsys)
    assert status == 78
    faults = {what: each["fault"] for what, each in found.items() if not each["ok"]}
    assert set(faults) == {f"socket {stranger}", f"HTTP {http}"}
    assert "in use by a running process" in faults[f"socket {stranger}"]
    assert "another process listens there" in faults[f"HTTP {http}"]


def test_an_agent_of_another_configuration_on_the_same_log_is_a_fault(
    agent: AgentProcess, setup: Setup
) -> None:
    agent.start()
    setup.write(extra=f'[wal]\ndir = "{agent.wal_dir}"')
    status, faults = setup.probe()
    assert status == 75
    assert f"held by process {agent.pid}" in faults["WAL"]


def test_other_mistakes_are_told_beside_the_agent_too(
    agent: AgentProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    agent.start()
    agent.edit_config('protocol = "append"', 'protocol = "append"\ngroup = "no-such-group"')
    status, found = tried(agent, capsys)
    assert status == 78
    (fault,) = [each["fault"] for each in found.values() if not each["ok"]]
    assert "no-such-group" in fault
