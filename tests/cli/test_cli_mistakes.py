"""The commonest mistakes: one line each that says what is wrong, where, and what to do."""

from __future__ import annotations

import grp
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_agent.cli.main import main
from support.agent_process import AgentProcess

_AS_NOBODY = """
import os, sys
from hf_agent.client import Client, ClientError
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    Client(sys.argv[1])
except ClientError as error:
    print(error)
"""
"""Another user might not reach the interpreter, nor the package, in a checkout of root's."""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    agent = AgentProcess(tmp_path_factory.mktemp("agent")).start()
    yield agent
    assert agent.stop() == 0, agent.log_text()


class Shell:
    """Commands whose one line of error is what counts."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *args: str) -> tuple[int, str]:
        status = main(list(args))
        out, err = self._capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("hf-agent: ")
        return status, line.removeprefix("hf-agent: ")

    def config(self, url: str = "file:///tmp/store", wal: str = "wal", more: str = "") -> str:
        path = self.folder / "agent.toml"
        path.write_text(
            f"""[[listen]]
path = "{self.folder}/a.sock"
[http]
listen = ""
[store]
url = "{url}"
[wal]
dir = "{self.folder / wal}"
{more}"""
        )
        return str(path)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def test_a_misspelt_command_is_told_the_nearest(shell: Shell) -> None:
    assert shell("stauts") == (
        64,
        "no such command 'stauts'; did you mean 'status'?; see hf-agent --help",
    )
    assert shell("wal", "inspekt") == (
        64,
        "no such command 'inspekt'; did you mean 'inspect'?; see hf-agent wal --help",
    )
    assert shell("xyzzy") == (64, "no such command 'xyzzy'; see hf-agent --help")


def test_a_configuration_without_its_option_is_told_the_option(shell: Shell) -> None:
    assert shell("agent.toml") == (
        64,
        (
            "no such command 'agent.toml'; to run the agent with it: hf-agent --config agent.toml; "
            "see hf-agent --help"
        ),
    )
    for command in ("run", "check-config"):
        assert shell(command, "agent.toml") == (
            64,
            (
                "got unexpected extra argument (agent.toml); give a configuration with "
                f"--config agent.toml; see hf-agent {command} --help"
            ),
        )


def test_a_group_without_a_command_lists_them(shell: Shell) -> None:
    assert shell("config") == (64, "missing command: example, schema; see hf-agent config --help")


def test_a_missing_configuration_is_named(shell: Shell) -> None:
    path = str(shell.folder / "none.toml")
    message = f"{path}: cannot be read: no such file or directory"
    assert shell("--config", path) == (78, message)
    assert shell("check-config", "--config", path) == (78, message)


def test_a_misspelt_key_is_told_the_nearest_with_its_line(shell: Shell) -> None:
    path = shell.config(more='[flush]\nintervall = "5s"\n')
    status, line = shell("check-config", "--config", path)
    assert status == 78
    assert line == (
        f'{path}:10: flush.intervall = "5s": unknown key; the nearest known key is flush.interval'
    )


def test_text_without_quotes_is_told_of_them(shell: Shell) -> None:
    path = shell.folder / "agent.toml"
    path.write_text("[[listen]]\npath = /run/hf-agent/a.sock\n")
    assert shell("run", "--config", str(path)) == (
        78,
        (
            f"{path}:2: path = /run/hf-agent/a.sock: not valid TOML: invalid value; "
            'text stands in quotes: "..."'
        ),
    )


def test_a_port_that_another_program_has_is_told_with_the_key_to_change(shell: Shell) -> None:
    path = Path(shell.config())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path.write_text(path.read_text().replace('listen = ""', f'listen = "{address}"'))
        assert shell("run", "--config", str(path), "--log-level", "error") == (
            78,
            (
                "cannot serve HTTP: address already in use; another process listens there: stop "
                f"it, or change http.listen listen={address}"
            ),
        )


def test_a_bucket_without_credentials_says_that_there_are_none(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(shell.folder))
    assert shell("ls", "s3://bucket/logs", "--region", "us-east-1") == (
        69,
        (
            "list failed: no usable credentials: unable to locate credentials; provide them, they "
            "are looked up again bucket=bucket"
        ),
    )


def test_a_place_without_a_container_is_told_what_is_missing(shell: Shell) -> None:
    uri = f"file://{shell.folder}/none"
    for command in ("cat", "stat", "tail", "verify"):
        status, line = shell(command, uri)
        assert status == 1
        assert line == f"no container here: it has no inode object uri={uri}", command


def test_a_variable_that_is_not_set_is_named(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_AGENT_BUCKET", raising=False)
    status, line = shell("check-config", "--config", shell.config("s3://${HF_AGENT_BUCKET}/logs"))
    assert status == 78
    assert "HF_AGENT_BUCKET" in line
    assert "not set" in line


def test_a_directory_that_cannot_be_made_is_named_with_what_to_do(shell: Shell) -> None:
    path = shell.config(wal="no/such/wal")
    assert shell("run", "--config", path, "--log-level", "error") == (
        78,
        (
            "cannot use the write-ahead log: no such file or directory; create the directory above "
            f"it, or name another one path={shell.folder}/no/such/wal"
        ),
    )


def test_a_second_agent_on_one_log_is_told_that_there_is_a_first(
    shell: Shell, agent: AgentProcess
) -> None:
    path = shell.config(wal=str(agent.wal_dir))
    status, line = shell("run", "--config", path, "--log-level", "error")
    assert status == 75
    assert "another" in line
    assert str(agent.wal_dir) in line


def test_a_socket_of_another_protocol_is_suspected(shell: Shell, agent: AgentProcess) -> None:
    assert shell("status", "--socket", str(agent.lines_socket)) == (
        1,
        (
            "cannot reach the agent: agent does not greet; is this a socket of protocol append? "
            f"path={agent.lines_socket}"
        ),
    )


def test_a_socket_that_is_none_is_called_what_it_is(shell: Shell) -> None:
    file = shell.folder / "file"
    file.touch()
    args = ["status", "--socket"]
    lost = "cannot reach the agent"
    assert shell(*args, str(shell.folder / "none")) == (
        1,
        f"{lost}: no such file or directory; is it running? path={shell.folder}/none",
    )
    assert shell(*args, str(file)) == (
        1,
        f"{lost}: connection refused; that is not a socket path={file}",
    )
    assert shell(*args, str(shell.folder)) == (
        1,
        (
            f"{lost}: connection refused; that is a directory: name the socket in it "
            f"path={shell.folder}"
        ),
    )


def test_a_socket_that_nobody_listens_on_any_more_asks_whether_the_agent_runs(
    shell: Shell,
) -> None:
    path = str(shell.folder / "left.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    assert shell("status", "--socket", path) == (
        1,
        f"cannot reach the agent: connection refused; is it running? path={path}",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_socket_that_this_user_may_not_write_to_names_its_group(agent: AgentProcess) -> None:
    # A folder of its own: those of tests let nobody else in.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as private:
        Path(folder).chmod(0o755)
        path = f"{folder}/private.sock"
        private.bind(path)
        Path(path).chmod(0o660)
        private.listen()
        told = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, path], capture_output=True, text=True, check=False
        )
    group = grp.getgrgid(os.getegid()).gr_name
    assert (told.stdout, told.stderr) == (
        (
            "cannot reach the agent: permission denied; this user may not write to the socket: "
            f"join group {group} path={path}\n"
        ),
        "",
    )


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("/srv/store/app", "file:///srv/store/app"),
        ("./app", "file://{here}/app"),
        ("app", "file://{here}/app"),
        ("s3:/bucket/app", "s3://bucket/app"),
        ("s3:bucket/app", "s3://bucket/app"),
        ("S3://bucket/app", "s3://bucket/app"),
        ("file://srv/app", "file:///srv/app"),
    ],
)
@pytest.mark.parametrize("command", ["cat", "ls", "rm"])
def test_a_path_or_a_misspelt_uri_is_told_the_uri_that_was_meant(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, command: str, given: str, meant: str
) -> None:
    monkeypatch.chdir(shell.folder)
    status, line = shell(command, given)
    assert status == 64
    assert f"did you mean {meant.format(here=shell.folder)}? url={given!r}" in line
    assert not list(shell.folder.iterdir())
