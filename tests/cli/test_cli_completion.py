"""`completion`, and what the scripts get when they ask."""

from __future__ import annotations

import os
import re
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


ASKED = {
    "bash": r"""
        source <(hf-agent completion bash)
        COMP_WORDS=({words}) COMP_CWORD={last}
        _hf_agent_completion hf-agent && printf '%s\n' "${{COMPREPLY[@]}}"
    """,
    # Its line editor is not there: these two are what the script hands its findings to.
    "zsh": """
        compdef() {{ :; }}
        _describe() {{ local name=${{@[-2]}}; print -rl -- "${{(@P)name}}"; }}
        compadd() {{ local name=${{@[-1]}}; print -rl -- "${{(@P)name}}"; }}
        source <(hf-agent completion zsh)
        words=({words}) CURRENT=$(({last} + 1))
        _hf_agent_completion
    """,
    "fish": """
        hf-agent completion fish | source
        complete -C "{line}"
    """,
}
"""What has each shell complete the last of some words by its own script."""

BARE = {"bash": ["bash", "--norc"], "zsh": ["zsh", "-f"], "fish": ["fish", "--no-config"]}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("hf-agent wal ins", {"inspect"}),
        ("hf-agent config example --store ''", {"directory", "s3"}),
        ("hf-agent status --wa", {"--watch"}),
    ],
)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_by_its_script(shell: str, words: str, answer: set[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    if not PROGRAM.exists():
        pytest.skip(f"the command is not installed as {PROGRAM}")
    script = ASKED[shell].format(
        words=words, last=len(words.split()) - 1, line=words.removesuffix("''")
    )
    done = subprocess.run(
        [*BARE[shell], "-c", script],
        env={**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    # Some show the line of help behind what they complete.
    found = {re.split(r"[:\t]", line)[0] for line in done.stdout.splitlines()}
    assert found == answer
