"""Commands in README, found by the HTML comments that mark them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def marked(name: str) -> list[str]:
    """The lines of the code block behind the comment `<!-- name -->`."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(rf"^<!-- {re.escape(name)} -->\n```sh\n(.*?)^```$", text, re.M | re.S)
    assert len(found) == 1, f"README marks {len(found)} blocks as {name}"
    return [line for line in found[0].splitlines() if line]
