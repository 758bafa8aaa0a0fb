"""What is given out: the wheel, byte for byte the same for everyone, and its bill of materials."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from hf_agent import __version__
from support.dependencies import locked, runtime_dependencies
from support.readme import ROOT, block
from support.source_copy import build, copy_source, wants_a_compiler


def build_wheel(folder: Path, *, umask: int, mtime: int, native: str) -> Path:
    """The wheel of a copy of the source below `folder`, made under another umask and clock."""
    source = copy_source(folder / "source")
    for path in source.rglob("*"):
        os.utime(path, (mtime, mtime))
        path.chmod(0o777 & ~umask if path.is_dir() else 0o666 & ~umask)
    return build(
        source,
        umask=umask,
        env={
            "HF_AGENT_NATIVE": native,
            "CFLAGS": "-g",  # paths are what debugging information is full of
            "SOURCE_DATE_EPOCH": "1700000000",
            "TZ": f"UTC{mtime % 12}",
        },
    ).file


@pytest.mark.parametrize(
    ("native", "tag"),
    [
        ("no", "py3-none-any"),
        pytest.param("require", f"cp311-abi3-linux_{os.uname().machine}", marks=wants_a_compiler),
    ],
)
def test_the_wheel_is_the_same_bytes_whoever_builds_it_where_and_when(
    tmp_path: Path, native: str, tag: str
) -> None:
    first = build_wheel(tmp_path / "one", umask=0o022, mtime=1_500_000_000, native=native)
    second = build_wheel(
        tmp_path / "another" / "place", umask=0o077, mtime=1_600_000_003, native=native
    )
    assert first.name == second.name == f"hf_agent-{__version__}-{tag}.whl"
    digests = [hashlib.sha256(each.read_bytes()).hexdigest() for each in (first, second)]
    assert digests[0] == digests[1], contents(first) ^ contents(second)
    page = {f"hf_agent/web/page/status.{kind}" for kind in ("css", "html", "js")}
    assert page <= {name for name, *_ in contents(first)}


def contents(wheel: Path) -> set[tuple[str, int, int, object]]:
    with zipfile.ZipFile(wheel) as archive:
        return {
            (each.filename, each.CRC, each.external_attr, each.date_time)
            for each in archive.infolist()
        }


def describe(output: Path, *python: Path) -> dict[str, Any]:
    """Run the command; what it wrote."""
    done = subprocess.run(
        [ROOT / "requirements" / "sbom", output, *python],
        capture_output=True,
        text=True,
        timeout=580,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = json.loads(output.read_text())
    return parsed


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The bill of an installation that holds what is installed here of the runtime's packages.

    It holds their metadata only, which is what is described: so no package index is asked.
    """
    folder = tmp_path_factory.mktemp("bill")
    venv.create(folder / "venv", symlinks=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    for package in [distribution("hf-agent"), *runtime_dependencies().values()]:
        (origin,) = {
            Path(str(package.locate_file(each))).parent
            for each in package.files or []
            if each.name == "METADATA"
        }
        ignored = shutil.ignore_patterns("direct_url.json")  # an editable installation's own path
        shutil.copytree(origin, site / origin.name, ignore=ignored)
    return describe(folder / "hf-agent.cdx.json", folder / "venv" / "bin" / "python")


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    "HF_AGENT_TEST_INDEX" not in os.environ, reason="asks a package index: set HF_AGENT_TEST_INDEX"
)
def test_a_host_gets_exactly_what_is_locked_by_the_commands_of_the_page(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "opt"
    shutil.copytree(ROOT / "requirements", copy_source(source) / "requirements")
    commands = block("docs/systemd.md", "systemd-venv", "sh").replace("/opt/hf-agent", str(target))
    assert commands.count(str(target)) == 3
    subprocess.run(["bash", "-euc", commands], cwd=source, check=True, timeout=580)
    for words, said in (
        (["hf-agent", "--version"], f"hf-agent {__version__}"),
        (["pip", "check"], "No broken requirements found."),
    ):
        done = subprocess.run(
            [target / "bin" / words[0], *words[1:]], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.strip() == said, done.stderr


@pytest.mark.timeout(1200)  # two installations from an index
@pytest.mark.skipif(
    "HF_AGENT_TEST_INDEX" not in os.environ, reason="asks a package index: set HF_AGENT_TEST_INDEX"
)
def test_the_bill_of_the_lock_is_that_of_what_is_tested(
    bill: dict[str, Any], tmp_path: Path
) -> None:
    first, second = (describe(tmp_path / name) for name in ("first", "second"))
    assert first == second
    assert {each["purl"] for each in first["components"]} == {
        each["purl"] for each in bill["components"]
    }


def test_the_bill_of_materials_is_valid_cyclonedx(bill: dict[str, Any]) -> None:
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill))
    assert fault is None
    component = bill["metadata"]["component"]
    assert (component["name"], component["version"]) == ("hf-agent", __version__)


def test_the_bill_of_materials_names_what_the_agent_runs_with_and_nothing_else(
    bill: dict[str, Any],
) -> None:
    names = {canonicalize_name(each["name"]) for each in bill["components"]}
    assert names == set(runtime_dependencies())
    runtime = locked(ROOT / "requirements" / "runtime.txt")
    assert names <= {canonicalize_name(entry.name) for entry, _ in runtime}


def test_the_bill_of_materials_gives_each_package_a_version_and_a_licence(
    bill: dict[str, Any],
) -> None:
    for each in bill["components"]:
        assert each["version"], each["name"]
        assert each["purl"].startswith("pkg:pypi/")
        assert each["licenses"], each["name"]


def test_the_bill_of_materials_says_who_needs_whom(bill: dict[str, Any]) -> None:
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    root = needs[bill["metadata"]["component"]["bom-ref"]]
    assert any(each.startswith("aiobotocore==") for each in root)


def test_the_bill_of_materials_tells_nothing_of_the_machine_that_made_it(
    bill: dict[str, Any],
) -> None:
    text = json.dumps(bill)
    assert "file://" not in text
    assert str(ROOT) not in text
    assert "serialNumber" not in bill
    assert "timestamp" not in bill["metadata"]
