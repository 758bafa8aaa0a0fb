"""What the agent needs at run time, as the installed packages say, and what may be done with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["compatible", "licence", "locked", "runtime_dependencies"]

COMPATIBLE = {
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "MIT",
    "PSF-2.0",
    # A library of its own that is loaded at run time and can be replaced: what the LGPL asks for.
    "LGPL-2.1-or-later",
}
"""SPDX names of licences under which a dependency may be, next to our Apache-2.0."""

_FREE_TEXT = {
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
}
"""What older metadata says in its field `License`, where that is no SPDX name."""

_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
}
"""The same of classifiers, which do not tell the BSD licences apart: the stricter one is taken."""


def runtime_dependencies() -> dict[str, Distribution]:
    """Every package that hf-agent needs here, directly or not, by its canonical name."""
    found: dict[str, Distribution] = {}

    def walk(package: Distribution) -> None:
        for line in package.requires or []:
            needed = Requirement(line)
            name = canonicalize_name(needed.name)
            extras = needed.extras or {""}
            if name in found or not _applies(needed):
                continue
            assert extras == {""}, f"{line}: extras of dependencies are not followed"
            found[name] = distribution(needed.name)
            walk(found[name])

    walk(distribution("hf-agent"))
    return found


def _applies(needed: Requirement) -> bool:
    return needed.marker is None or needed.marker.evaluate({"extra": ""})


def licence(package: Distribution) -> str:
    """The SPDX expression of a package's licence; fails where its metadata names none."""
    metadata = package.metadata.json
    if expression := metadata.get("license_expression"):
        return str(expression)
    classifiers = [
        each.rpartition(" :: ")[2]
        for each in metadata.get("classifier", [])
        if each.startswith("License ::")
    ]
    text = str(metadata.get("license", ""))
    if len(classifiers) > 1:
        return " OR ".join(sorted(_CLASSIFIERS[each] for each in classifiers))
    if text:
        return _FREE_TEXT.get(text, text)
    assert classifiers, f"{package.name}: no licence in its metadata: look for it in its source"
    return _CLASSIFIERS[classifiers[0]]


def compatible(expression: str) -> bool:
    """Whether an SPDX expression (no parentheses) leaves a choice that is compatible."""
    return any(
        all(each.strip() in COMPATIBLE for each in choice.split(" AND "))
        for choice in expression.split(" OR ")
    )


def locked(path: Path) -> Iterator[tuple[Requirement, list[str]]]:
    """The requirements of a lock file, each with its digests."""
    for entry in re.split(r"\n(?=\S)", path.read_text()):
        if entry.startswith("#"):
            continue
        line, *options = (part.strip() for part in entry.split("\\\n"))
        yield Requirement(line), [each.removeprefix("--hash=") for each in options]
