"""Licences of what the agent needs at run time, from the metadata of the installed packages."""

from __future__ import annotations

import re

import pytest
from packaging.utils import canonicalize_name

from support.dependencies import compatible, licence, locked, runtime_dependencies
from support.readme import ROOT

PAGE = ROOT / "docs" / "supply-chain.md"


def listed() -> dict[str, str]:
    """Package to licence, from the page's table."""
    table = PAGE.read_text().split("<!-- licences -->")[1].split("\n\n")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|$", table, re.M))


def test_every_runtime_dependency_has_a_licence_that_is_compatible_with_ours() -> None:
    found = {name: licence(package) for name, package in runtime_dependencies().items()}
    assert len(found) > 20
    assert {name: each for name, each in found.items() if not compatible(each)} == {}


def test_the_page_lists_every_runtime_dependency_with_its_licence() -> None:
    installed = {name: licence(package) for name, package in runtime_dependencies().items()}
    rows = listed()
    wrong = {name: each for name, each in installed.items() if rows.get(name) != each}
    assert wrong == {}, "write these rows into docs/supply-chain.md"
    # A row may be of a package that another platform or Python needs: then it is in the lock.
    runtime = locked(ROOT / "requirements" / "runtime.txt")
    assert set(rows) <= {canonicalize_name(entry.name) for entry, _ in runtime}


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND AGPL-3.0-only", False),
        ("AGPL-3.0-only AND MIT OR GPL-2.0-only", False),
        ("UNKNOWN", False),
    ],
)
def test_an_expression_fits_when_one_of_its_choices_does(expression: str, fits: bool) -> None:
    assert compatible(expression) is fits
