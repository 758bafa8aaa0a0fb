"""The lock files: complete, exact, with digests, and good on any machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.dependencies import locked
from support.readme import ROOT, marked

LOCKS = ("runtime.txt", "build.txt", "dev.txt")
REQUIREMENTS = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def declared() -> dict[str, list[str]]:
    extras = PROJECT["project"]["optional-dependencies"]
    return {
        "runtime.txt": PROJECT["project"]["dependencies"],
        "build.txt": PROJECT["build-system"]["requires"],
        "dev.txt": [
            *PROJECT["project"]["dependencies"],
            *PROJECT["build-system"]["requires"],
            *(line for name in ("fsspec", "test", "dev") for line in extras[name]),
        ],
    }


@pytest.mark.parametrize("name", LOCKS)
def test_every_dependency_of_the_project_is_locked_in_a_version_that_it_accepts(name: str) -> None:
    versions: dict[str, list[str]] = {}
    for entry, _ in locked(REQUIREMENTS / name):
        (pin,) = entry.specifier
        versions.setdefault(canonicalize_name(entry.name), []).append(pin.version)
    for line in declared()[name]:
        needed = Requirement(line)
        if needed.name == "hf-agent":
            continue  # its own extras
        found = versions.get(canonicalize_name(needed.name), [])
        assert any(needed.specifier.contains(each) for each in found), (
            f"{line} is not in requirements/{name}: run requirements/lock"
        )


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_is_exact_and_has_digests(name: str) -> None:
    entries = list(locked(REQUIREMENTS / name))
    assert entries
    for entry, digests in entries:
        (pin,) = entry.specifier
        assert pin.operator == "=="
        assert digests
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in digests)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_index_no_address_and_no_path(name: str) -> None:
    text = (REQUIREMENTS / name).read_text()
    assert "://" not in text
    assert not re.search(r"^-|index|find-links", text, re.M)
    assert not re.search(r"(^|\s)/", text, re.M)


def test_what_makes_the_wheel_is_what_the_project_says() -> None:
    lines = (REQUIREMENTS / "build.in").read_text().splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert wanted == PROJECT["build-system"]["requires"]


def test_the_runtime_lock_is_part_of_the_one_that_is_tested() -> None:
    def pins(name: str) -> set[str]:
        # Without markers: what the tests need may make a package needed on more Pythons.
        return {f"{each.name}{each.specifier}" for each, _ in locked(REQUIREMENTS / name)}

    assert pins("runtime.txt") | pins("build.txt") <= pins("dev.txt")


def test_the_tests_of_the_readme_run_in_the_locked_environment() -> None:
    (command,) = marked("test-command")
    assert "--require-hashes --requirement requirements/dev.txt" in command
    # The second installation adds the project itself and nothing that is not locked.
    assert "--no-deps --no-build-isolation --editable ." in command


@pytest.mark.skipif(
    "HF_AGENT_TEST_INDEX" not in os.environ, reason="asks a package index: set HF_AGENT_TEST_INDEX"
)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_runtime_dependency_has_a_wheel_for_both_architectures(
    machine: str, tmp_path: Path
) -> None:
    if shutil.which("pip") is None:
        pytest.skip("pip is not installed")
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in (36, 28, 17)]
    subprocess.run(
        [
            *("pip", "download", "--quiet", "--dest", str(tmp_path), "--no-deps"),
            *("--only-binary", ":all:", "--python-version", "3.12"),
            *(part for each in platforms for part in ("--platform", each)),
            *("--require-hashes", "--requirement", str(REQUIREMENTS / "runtime.txt")),
        ],
        check=True,
        stdout=sys.stderr,
        timeout=600,
    )
