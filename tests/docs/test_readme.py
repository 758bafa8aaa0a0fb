"""What README tells a newcomer to paste does what README says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_agent.cli.command import LazyGroup
from hf_agent.cli.main import cli
from support.newcomer import Newcomer
from support.readme import ROOT, marked


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    newcomer = Newcomer(tmp_path)
    # The last part of README's command: what runs the agent, once it is installed.
    (line,) = marked("run-command")
    with newcomer.running(line.split(" && ")[-1]):
        yield newcomer


def test_the_walk_through_shows_what_it_says(newcomer: Newcomer) -> None:
    append, status, flush, cat, metrics = marked("walk-through")
    size = len("".join(f"{i}\n" for i in range(1, 1001)))
    assert newcomer.paste(append) == (
        f"acknowledged {size} bytes in 1000 appends; demo is at {size}\n"
    )
    assert "running" in newcomer.paste(status)
    assert newcomer.paste(flush) == ""
    assert newcomer.paste(cat) == "998\n999\n1000\n"
    shown = newcomer.paste(metrics)
    assert 'hf_agent_acked_records_total{protocol="append"} 1000.0\n' in shown
    assert f"hf_agent_flush_bytes_total {size}.0\n" in shown
    # The agent wrote below one folder, and nowhere else.
    entries = {path.name for path in newcomer.folder.iterdir()}
    assert entries == {".venv", "config", "deploy", "hf-agent-data"}


def test_both_commands_are_one_line_each_and_start_from_nothing_but_python() -> None:
    (run,) = marked("run-command")
    (test,) = marked("test-command")
    for line in (run, test):
        assert line.startswith("python3 -m venv ")
    assert run.endswith("/bin/hf-agent --config config/agent.toml")
    assert "--require-hashes --requirement requirements/dev.txt" in test
    assert "pytest" in test


def test_every_command_that_readme_names_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?:^|`|bin/)hf-agent ([a-z][a-z-]*)", text, re.M))
    assert {"append", "ls", "log", "cat", "tail", "check-config"} <= named
    assert isinstance(cli, LazyGroup)
    assert named <= set(cli.lazy)


def test_every_command_that_is_there_is_named_on_a_page() -> None:
    assert isinstance(cli, LazyGroup)
    text = "".join(page.read_text() for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
    # To run the agent is the command without a subcommand, too, and is shown as that.
    left = {name for name in cli.lazy if not re.search(rf"\bhf-agent {name}\b", text)}
    assert left <= {"run"}
