"""Long work shows how far it has come on a terminal, and nothing where nobody looks."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from hf_agent import hyperfile
from support.agent_process import AgentProcess
from support.command import command_line, on_terminal

SIZE = 3 << 20
BAR = "\N{BOX DRAWINGS HEAVY HORIZONTAL}"
HIDDEN = "\x1b[?25l"
"""What rich writes first: the cursor goes."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


@pytest.fixture
def uri(tmp_path: Path, source: Path) -> str:
    made = f"file://{tmp_path}/store/data"
    for _ in range(2):
        with hyperfile.open(made, "w") as file:
            file.write(source.read_bytes())
    return made


def commands(uri: str, source: Path) -> dict[str, tuple[str, ...]]:
    other = f"{uri}-other"
    return {
        "write": ("write", f"{uri}-new", str(source)),
        "cp": ("cp", uri, f"{other}1"),
        "cp --history": ("cp", uri, f"{other}2", "--history"),
        "verify": ("verify", uri),
        "rollback": ("rollback", uri, "1"),
    }


@pytest.mark.parametrize("name", ["write", "cp", "cp --history", "verify", "rollback"])
def test_a_bar_is_drawn_on_a_terminal(uri: str, source: Path, name: str) -> None:
    status, drawn = on_terminal(*commands(uri, source)[name])
    assert status == 0, drawn
    assert drawn.startswith(HIDDEN)
    assert BAR in drawn
    assert ("checkpoints" if name == "rollback" else "MiB") in drawn
    # It is taken away in the end: what is left is no line.
    assert drawn.rstrip().endswith(("\x1b[2K", "\x1b[?25h"))


@pytest.mark.parametrize("name", ["cp", "rollback"])
def test_a_path_longer_than_the_line_leaves_room_for_bar_and_figures(
    tmp_path: Path, source: Path, name: str
) -> None:
    uri = f"file://{tmp_path}/store/{'/'.join(['a-long-way-down'] * 8)}/data"
    for _ in range(2):
        with hyperfile.open(uri, "w") as file:
            file.write(source.read_bytes())
    status, drawn = on_terminal(*commands(uri, source)[name], columns=80)
    assert status == 0, drawn
    assert BAR in drawn
    assert ("checkpoints" if name == "rollback" else "MiB") in drawn


@pytest.mark.parametrize("name", ["write", "cp", "cp --history", "verify", "rollback"])
def test_no_bar_is_drawn_into_a_pipe(uri: str, source: Path, name: str) -> None:
    args = command_line(*commands(uri, source)[name])
    done = subprocess.run(args, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\x1b" not in done.stdout


def test_cat_draws_a_bar_when_its_output_goes_to_a_file(
    uri: str, source: Path, tmp_path: Path
) -> None:
    with (tmp_path / "copy").open("wb") as copy:
        status, drawn = on_terminal("cat", uri, stdout=copy)
    assert (status, (tmp_path / "copy").read_bytes()) == (0, source.read_bytes())
    assert BAR in drawn
    # A pipe's reader may write to the same terminal.
    status, drawn = on_terminal("cat", uri, stdout=subprocess.DEVNULL)
    assert (status, drawn) == (0, "")


def test_append_draws_a_bar(source: Path, tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path / "agent").start()
    try:
        args = ("append", "--socket", str(agent.append_socket), "--stream", "s", "--by", "chunk")
        status, drawn = on_terminal(*args, str(source))
        assert status == 0, drawn
        assert BAR in drawn
        done = subprocess.run(command_line(*args, str(source)), capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
    finally:
        agent.close()


def test_an_error_on_a_terminal_is_a_line_below_no_bar(uri: str, source: Path) -> None:
    status, drawn = on_terminal("cp", uri, uri)
    assert status == 1
    assert drawn.rstrip().splitlines()[-1].endswith("already key=data")
