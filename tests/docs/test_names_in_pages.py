"""Commands, options, keys of the configuration and messages are as the pages write them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from hf_agent.cli.main import cli
from hf_agent.config.keys import keys
from support.readme import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SOURCE = re.sub(
    # A message may be written over several lines of source.
    r'"\s*\n\s*f?"',
    "",
    "\n".join(path.read_text() for path in sorted((ROOT / "agent" / "hf_agent").rglob("*.py"))),
)


def name_of(page: Path) -> str:
    return page.name


def code(page: Path) -> list[str]:
    """What stands in code: spans, and lines of blocks, continued ones as one."""
    text = page.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.M | re.S)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return [*spans, *(line for each in blocks for line in each.replace("\\\n", " ").split("\n"))]


def commands(page: Path) -> list[list[str]]:
    """The words behind each `hf-agent`, up to the end of the command or a pipe."""
    found = []
    for line in code(page):
        # Where a program's name stands, not that of a unit, a namespace, a group or a chart.
        for rest in re.findall(
            r"(?:^|[|(] *|-- +|&& |sh -c '|bin/)hf-agent ((?:[a-z]|--).*)", line
        ):
            lexer = shlex.shlex(rest, posix=True, punctuation_chars=True)
            lexer.whitespace_split, lexer.commenters = True, "#"
            words = []
            try:
                for word in lexer:
                    if set(word) <= set("|&;<>()"):
                        break
                    words.append(word)
            except ValueError:
                pass  # a quotation that the span began outside of it
            found.append(words)
    return found


def wrong_with(words: list[str]) -> str:
    """What `hf-agent` with these words has that there is not; empty: nothing."""
    command: click.Command = cli
    with click.Context(cli) as context:
        for word in words:
            if isinstance(command, click.Group) and not word.startswith("-"):
                found = command.get_command(context, word)
                if found is None:
                    return "" if command is cli and words[0].startswith("-") else word
                command = found
                continue
            option = word.split("=")[0]
            if option.startswith("--") and option not in {"--help", "--"}:
                known = {each for parameter in command.params for each in parameter.opts}
                if option not in known:
                    return option
    return ""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_their_options_exist(page: Path) -> None:
    wrong = {" ".join(words): wrong_with(words) for words in commands(page)}
    assert {command: word for command, word in wrong.items() if word} == {}


def test_a_command_that_is_not_there_would_be_found() -> None:
    assert len(commands(ROOT / "docs" / "runbook.md")) > 10
    assert wrong_with(["flsh"]) == "flsh"
    assert wrong_with(["wal", "mend", "DIR"]) == "mend"
    assert wrong_with(["wal", "repair", "--dryrun", "DIR"]) == "--dryrun"
    assert wrong_with(["--config", "agent.toml"]) == ""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_of_the_configuration_exist(page: Path) -> None:
    known = {key.name for key in keys()}
    tables = {name[: name.index(".")] for name in known}
    parts = {name.rpartition(".")[0] for name in known}
    named = {
        found
        for span in code(page)
        for found in re.findall(r"^((?:[a-z0-9_]+(?:\[\])?\.)+[a-z0-9_]+)(?: = .*)?$", span)
        if found.split(".")[0] in tables
    }
    assert named - known - parts - NO_KEYS == set()


NO_KEYS = {"agent.toml"}
"""Files that are named like a key."""


def test_messages_on_the_page_of_troubles_are_the_agents_own() -> None:
    page = ROOT / "docs" / "troubleshooting.md"
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    messages = [
        span
        for span in re.findall(r"`([^`\n]+)`", text)
        if " " in span
        and not re.match(r"[a-z-]+ (-|'|URI|/|show|describe|logs|cp|s3|verify|log|cat|is-)", span)
        and not span.startswith(("hf_agent_", "store away "))
        and not re.match(r"(hf-agent|kubectl|systemctl|journalctl|sysctl|aws) |--|.* = ", span)
    ]
    assert len(messages) > 25
    missing = {
        part
        for span in messages
        for part in re.split(r"…| process N\b| CODE\b|'STREAM'|[:;] ?$| in use by| yes$| 1$", span)
        if len(part.strip()) > 6 and part.strip(" ;:") not in SOURCE
    }
    assert missing == set()


def test_every_variable_that_makes_tests_do_more_is_on_the_page_of_contributors() -> None:
    sources = [*(ROOT / "tests").rglob("*.py"), ROOT / ".ci" / "run"]
    used = {
        name
        for path in sources
        for name in re.findall(r"\bHF_[A-Z][A-Z0-9_]*\b", path.read_text())
        if path != Path(__file__)
    }
    pages = "".join(page.read_text() for page in [*PAGES, ROOT / "config" / "agent.toml"])
    assert {name for name in used if f"{name}" not in pages} == set()
