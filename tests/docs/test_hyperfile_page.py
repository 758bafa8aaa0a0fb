"""The examples of docs/hyperfile.md run as they stand, and print what the page says."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import re
from pathlib import Path
from typing import Any

import pytest

from hf_agent import hyperfile
from support.newcomer import Newcomer
from support.readme import block

PAGE = Path(__file__).parents[2] / "docs" / "hyperfile.md"


def blocks() -> list[tuple[str, str, int]]:
    """Language, text and line of each code block."""
    text = PAGE.read_text()
    return [
        (found[1], found[2], text[: found.start()].count("\n") + 2)
        for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)
    ]


async def run(source: str, line: int, names: dict[str, Any]) -> str:
    """What a block prints."""
    code = compile(
        "\n" * (line - 1) + source, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = eval(code, names)
        if inspect.iscoroutine(result):
            await result
    return printed.getvalue()


async def test_the_examples_print_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    found = blocks()
    ran = 0
    for (language, source, line), (following, expected, _) in zip(
        found, [*found[1:], ("", "", 0)], strict=True
    ):
        if language != "python":
            assert language in ("text", "sh")
            continue
        printed = await run(source, line, names)
        assert printed == (expected if following == "text" else ""), f"line {line}"
        ran += 1
    assert ran > 10


def test_the_page_names_every_function_of_the_file_api() -> None:
    text = PAGE.read_text()
    for name, _ in inspect.getmembers(hyperfile.HyperFile, callable):
        if not name.startswith("_") and name != "open":
            assert f"{name}" in text, name
    for name in ("copy", "diff", "remove", "rollback", "list_checkpoints"):
        assert f"{name}" in text


def test_the_commands_do_to_a_container_what_their_comments_say(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    newcomer.environment["PATH"] = f"{newcomer.programs}:{os.environ['PATH']}"
    shown = newcomer.paste(block("docs/hyperfile.md", "hyperfile-commands", "sh"))
    assert shown.endswith("\none\ntwo\n")
    assert re.findall(r"^checkpoint (\d+):", shown, re.M) == ["1", "2", "3", "2", "3"]
    assert re.search(r"^size +7$", shown, re.M)
    assert list((tmp_path / "copies").rglob("notes")) == []
