"""`completion`, and what the scripts get when they ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hf_agent.cli.completion import SHELLS
from hf_agent.cli.main import main

PROGRAM = Path(sys.executable).with_name("hf-agent")
"""As it is installed beside the interpreter; scripts run it by its name."""


def completions(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """What bash is told for the last of `words`."""
    monkeypatch.setenv("_HF_AGENT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    assert main([]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("hf-agent st", ["plain,stat", "plain,status"]),
        ("hf-agent verify --end", ["plain,--endpoint-url"]),
        ("hf-agent config ", ["plain,example", "plain,schema"]),
        ("hf-agent config example --store ", ["plain,directory", "plain,s3"]),
        ("hf-agent --config ag", ["file,ag"]),
        ("hf-agent status --socket /run/", ["file,/run/"]),
        ("hf-agent completion z", ["plain,zsh"]),
    ],
)
def test_commands_options_choices_and_files_are_completed(
    words: str,
    answer: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert completions(words, monkeypatch, capsys) == answer


def test_completing_a_command_loads_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hf_agent.cli.command import LazyGroup

    def load(*_: object) -> None:
        raise AssertionError("a command was loaded")

    monkeypatch.setattr(LazyGroup, "get_command", load)
    assert "plain,append" in completions("hf-agent ap", monkeypatch, capsys)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_the_command_and_asks_by_its_variable(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "hf-agent" in text
    assert f"_HF_AGENT_COMPLETE={shell}_complete" in text


def test_bash_completes_by_its_script() -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    if not PROGRAM.exists():
        pytest.skip(f"the command is not installed as {PROGRAM}")
    asked = (
        "source <(hf-agent completion bash) && COMP_WORDS=(hf-agent wal ins) COMP_CWORD=2 && "
        '_hf_agent_completion hf-agent && printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", asked],
        env={**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("inspect\n", "")
