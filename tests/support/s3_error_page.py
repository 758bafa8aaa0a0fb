"""The tables of docs/s3.md."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["PAGE", "table"]

PAGE = (Path(__file__).parents[2] / "docs" / "s3.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of the last table below a heading, without its head."""
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, heading
    rows = [line for line in found[1].splitlines() if line.startswith("|")]
    assert len(rows) > 2, heading
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
    assert len({len(row) for row in cells}) == 1, heading
    return [[cell.strip() for cell in row] for row in cells]
