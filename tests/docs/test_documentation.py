"""Pages name things that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [
        target
        for target in targets
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]
    assert missing == []


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Those that GitHub gives to the headings."""
    titles = re.findall(r"^#+ (.+?)\s*$", prose(page), flags=re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_sections_lead_to_them(page: Path) -> None:
    missing = [
        f"{target}#{section}"
        for target, section in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", prose(page))
        if not re.match(r"[a-z]+:", target)
        and (found := page.parent / target if target else page).suffix == ".md"
        and section not in anchors(found)
    ]
    assert missing == []


def test_a_missing_section_would_be_found() -> None:
    assert "the-index-lists-nothing" not in anchors(ROOT / "README.md")
    assert "two-commands" in anchors(ROOT / "README.md")


QUESTIONS = (
    *("quickstart", "guarantees", "configuration", "protocols", "s3", "kubernetes", "runbook"),
    *("troubleshooting", "hyperfile", "hyperfile-format", "wal-format", "performance"),
    *("architecture", "decisions/", "comparison", "security", "contributing"),
)


@pytest.mark.parametrize("name", QUESTIONS)
def test_there_is_a_page_for_what_people_ask(name: str) -> None:
    link = f"{name}README.md" if name.endswith("/") else f"{name}.md"
    assert (ROOT / "docs" / link).is_file()
    index = (ROOT / "docs" / "README.md").read_text()
    (row,) = [line for line in index.splitlines() if f"]({link})" in line]
    assert re.search(r"\| .+[?.] \|$", row), "its row says what it answers"


def test_readme_is_short_and_shows_a_diagram_and_the_status_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")
    diagram = re.findall(r"^```text\n(.*?)^```", text, flags=re.M | re.S)[0]
    assert "write-ahead" in diagram and "▶" in diagram
    assert max(len(line) for line in diagram.splitlines()) <= 120


def test_the_index_lists_every_page() -> None:
    docs = ROOT / "docs"
    index = (docs / "README.md").read_text()
    pages = {path.name for path in docs.glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"]({name})" not in index} == set()


def test_decisions_are_numbered_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    names = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [int(name[:3]) for name in names] == list(range(1, len(names) + 1))
    index = (folder / "README.md").read_text()
    for name in names:
        assert f"]({name})" in index
        assert "\n**Status**: " in (folder / name).read_text()
