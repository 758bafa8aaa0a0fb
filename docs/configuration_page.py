"""Writes the tables of docs/configuration.md from the code: `python docs/configuration_page.py`.

Meanings stand in `hf_agent.config.meanings`, defaults in `hf_agent.config.model`. A test holds the
page to what this makes, so it cannot fall behind.
"""

from __future__ import annotations

import re
from pathlib import Path

from hf_agent.config.keys import Key, keys

PAGE = Path(__file__).with_name("configuration.md")

_HEADING = re.compile(r"### `\[+([a-z0-9_.]+)\]+`")
_ROW = "|"


def page(text: str) -> str:
    """The page `text` with every table of keys made anew."""
    tables: dict[str, list[Key]] = {}
    for key in keys():
        tables.setdefault(key.name.rpartition(".")[0].replace("[]", ""), []).append(key)
    lines: list[str] = []
    due: list[str] = []
    for line in text.split("\n"):
        if match := _HEADING.fullmatch(line):
            due = _table(tables.pop(match[1]))
        if due and line.startswith(_ROW):
            if line == due[0]:
                lines.extend(due)
            continue
        due = [] if line.startswith("## ") else due
        lines.append(line)
    if tables:
        raise ValueError(f"no heading for the keys of {', '.join(tables)}")
    return "\n".join(lines)


def _table(those: list[Key]) -> list[str]:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key in those:
        default = "none" if key.required else key.computed or f"`{key.default}`"
        rows.append(f"| `{key.name}` | {default} | {key.meaning} |")
    return rows


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
