"""Exit statuses and error lines of the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hf_agent import __version__
from hf_agent.cli import main as main_module
from hf_agent.cli.failures import CommandError, explain
from hf_agent.cli.main import main
from hf_agent.config import parse
from hf_agent.service.exit_status import ExitStatus
from hf_agent.store.base import StoreConflict, StoreNotFound, StoreRefused, StoreRetry
from hf_agent.wal.errors import WalLocked

GOLDEN = Path(__file__).parents[1] / "golden"
COMMANDS = (
    *("run", "check-config", "config", "append", "ls", "stat", "log", "cat", "tail"),
    *("diff", "cp", "write", "truncate", "zero", "rollback", "rm", "verify"),
    *("wal", "flush", "status", "completion"),
)


def run(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "hf_agent", *args], capture_output=True, text=True, **options
    )


def failure(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    """Exit status and error of a command that prints one line and nothing else."""
    status = main(list(args))
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("hf-agent: ")
    return status, line.removeprefix("hf-agent: ")


def test_help_names_every_command_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    section = capsys.readouterr().out.partition("Commands:\n")[2]
    assert [line.split()[0] for line in section.splitlines()] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_the_common_options(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    args = {"wal": ["wal", "inspect"], "config": ["config", "schema"]}.get(command, [command])
    assert main([*args, "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--log-level", "--log-format", "--debug", "--help"):
        assert option in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hf-agent {__version__}\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no command, and no --config to run the agent with; see hf-agent --help"),
        (["bogus"], "no such command 'bogus'; see hf-agent --help"),
        (["--bogus"], "no such option '--bogus'; see hf-agent --help"),
        (["ls"], "missing argument 'URL'; see hf-agent ls --help"),
        (["run"], "missing option --config; see hf-agent run --help"),
        (["check-config"], "missing option --config; see hf-agent check-config --help"),
        (["wal", "bogus"], "no such command 'bogus'; see hf-agent wal --help"),
        (["flush"], "missing option '--socket'; see hf-agent flush --help"),
    ],
)
def test_a_wrong_command_line_ends_with_64(
    capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert failure(capsys, *args) == (64, message)


def test_a_wrong_configuration_ends_with_78_and_a_line_for_each_mistake(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[store]\nurl = "file:///x"\nkeyy = 1\n[wall]\n')
    for args in (["--config", str(path)], ["check-config", "--config", str(path)]):
        assert main(args) == 78
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines() == [
            f"hf-agent: {path}: listen: missing: add at least one [[listen]] table",
            f"hf-agent: {path}:3: store.keyy = 1: unknown key; the nearest known key is store.key",
            f"hf-agent: {path}:4: wall: unknown key; the nearest known key is wal",
        ]
    status, line = failure(capsys, "run", "--config", str(tmp_path / "missing"))
    assert (status, line) == (
        78,
        f"{tmp_path}/missing: cannot be read: no such file or directory",
    )


def test_a_good_configuration_is_ok(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(GOLDEN.parents[1] / "config" / "agent.toml")
    assert main(["check-config", "--config", path]) == 0
    assert capsys.readouterr().out == f"configuration {path}: ok\n"
    assert main(["--config", path, "check-config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"what": f"configuration {path}", "ok": True, "fault": "", "note": ""}
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CommandError("no"), ExitStatus.FAILED),
        (CommandError("no", ExitStatus.STORE_UNAVAILABLE), ExitStatus.STORE_UNAVAILABLE),
        (StoreRetry("away"), ExitStatus.STORE_UNAVAILABLE),
        (StoreRefused("denied"), ExitStatus.STORE_UNAVAILABLE),
        (StoreNotFound("gone"), ExitStatus.FAILED),
        (StoreConflict("changed"), ExitStatus.FAILED),
        (WalLocked(Path("/wal"), 7), ExitStatus.WAL_LOCKED),
        (FileNotFoundError(2, "No such file or directory", "/x"), ExitStatus.FAILED),
        (KeyError("x"), ExitStatus.FAILED),
    ],
)
def test_each_kind_of_error_has_its_status_and_one_line(error: Exception, status: int) -> None:
    failure = explain(error)
    assert failure.status == status
    (line,) = failure.lines
    assert line
    assert "\n" not in line


def test_an_unexpected_error_says_how_to_see_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kw: object) -> None:
        raise RuntimeError("several\nlines")

    monkeypatch.setattr(sys.modules[parse.__module__], "parse", broken)
    config = str(GOLDEN.parents[1] / "config" / "agent.toml")
    assert failure(capsys, "check-config", "--config", config) == (
        1,
        "unexpected error: RuntimeError: several lines (--debug shows where)",
    )
    for args in (["--debug", "check-config"], ["check-config", "--debug"]):
        with pytest.raises(RuntimeError):
            main([*args, "--config", config])


def test_an_interrupt_ends_with_130_in_silence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kw: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module.cli, "invoke", interrupted)
    assert main(["ls", "file:///"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_real_interrupt_of_a_command_that_waits_ends_with_130() -> None:
    # Tests that run in the background of a shell ignore interrupts, and so does all they start.
    script = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('hf_agent', run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "tail", "-f", "-n", "1", f"file://{GOLDEN}/parted"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(1)  # it has written the last line, and follows now
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")


def test_a_broken_pipe_is_quiet() -> None:
    """`cat` of 40 MB into a reader that goes away at once."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_agent", "cat", f"file://{GOLDEN}/parted-sparse-tree"],
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    assert os.read(reading, 10)
    os.close(reading)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (141, b"")


def test_logs_go_to_standard_error_and_results_to_standard_output() -> None:
    done = run("--log-level", "debug", "--log-format", "json", "stat", f"file://{GOLDEN}/parted")
    assert done.returncode == 0
    assert done.stdout.startswith("uri ")
    for line in done.stderr.splitlines():
        json.loads(line)
