"""The page on guarantees names tests and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "tests/" in line]
COMMANDS = re.findall(r"^(?:\w+=\S+ )*python (tests/\S+\.py)(.*)$", PAGE, re.M)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[\w/.-]+)`", PAGE))))
def test_each_test_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()
    if (ROOT / path).is_dir():
        assert list((ROOT / path).glob("test_*.py")), "pytest finds something in it"


@pytest.mark.parametrize(("script", "options"), COMMANDS)
def test_each_command_has_a_script_that_knows_its_options(script: str, options: str) -> None:
    text = (ROOT / script).read_text()
    for option in re.findall(r"--[\w-]+", options):
        assert f'"{option}"' in text, f"{script} knows no {option}"


def test_each_numbered_promise_has_a_row_with_its_tests() -> None:
    numbers = set(re.findall(r"^## (\d+)\. ", PAGE, re.M))
    assert numbers <= {row[2] for row in ROWS}
    assert len(COMMANDS) >= 5
