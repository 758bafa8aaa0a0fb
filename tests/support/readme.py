"""Blocks in README and the pages, found by the HTML comments that mark them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def marked(name: str) -> list[str]:
    """The lines of README's commands behind the comment `<!-- name -->`."""
    return [line for line in block("README.md", name, "sh").splitlines() if line]


def block(page: str, name: str, language: str) -> str:
    """The code block of a page behind the comment `<!-- name -->`."""
    text = (ROOT / page).read_text()
    pattern = rf"^<!-- {re.escape(name)} -->\n```{language}\n(.*?)^```$"
    found = re.findall(pattern, text, re.M | re.S)
    assert len(found) == 1, f"{page} marks {len(found)} blocks as {name}"
    return str(found[0])
