"""docs/hyperfile-api.md says what the docstrings say."""

from __future__ import annotations

import runpy
from pathlib import Path

from hf_agent import hyperfile

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_docstrings_make() -> None:
    made = runpy.run_path(str(DOCS / "api_page.py"))["page"]()
    assert (DOCS / "hyperfile-api.md").read_text() == made, "run python docs/api_page.py"


def test_the_page_has_all_of_the_file_api_with_units_and_errors() -> None:
    text = (DOCS / "hyperfile-api.md").read_text()
    for name in ("open", "HyperFile", "FileOptions", "copy", "diff", "rollback", "remove"):
        assert name in hyperfile.__all__
        assert f"### `hf_agent.hyperfile.{name}`" in text
    for name in ("pread", "pwrite", "append", "zero", "truncate", "seek_data", "flush"):
        section = text.partition(f"#### `HyperFile.{name}`")[2].partition("####")[0]
        assert "Raises" in section or "raise" in section, name
