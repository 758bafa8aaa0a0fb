"""`hatch_build.py`: when the loops in C are compiled, what is said when not, and what is built."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hf_agent import __version__
from support.readme import ROOT
from support.source_copy import build, copy_source, wants_a_compiler

PURE = f"hf_agent-{__version__}-py3-none-any.whl"
MODULE = "hf_agent/_native.abi3.so"
REQUIRE = {"HF_AGENT_NATIVE": "require"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return copy_source(tmp_path / "source")


@pytest.fixture
def in_place(source: Path) -> Path:
    """Where an editable installation has the extension."""
    return source / "agent" / MODULE


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def program(path: Path, *lines: str) -> str:
    """A compiler, by its path, that is these lines of shell."""
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return str(path)


def has_native(folder: Path) -> bool:
    """Whether the package in `folder` finds its extension."""
    done = subprocess.run(
        [sys.executable, "-c", "import hf_agent.native as n; print(n.__file__, n.available())"],
        env=os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    path, _, answer = done.stdout.strip().rpartition(" ")
    assert path == str(folder / "hf_agent" / "native.py"), done.stderr
    return answer == "True"


@wants_a_compiler
@pytest.mark.parametrize("whether", [None, "", "auto", "1", "require"])
def test_a_wheel_has_the_extension_and_the_tag_of_what_it_needs(
    source: Path, tmp_path: Path, whether: str | None
) -> None:
    environment = {} if whether is None else {"HF_AGENT_NATIVE": whether}
    built = build(source, env=environment)
    assert "hf_agent._native is compiled" in built.said
    machine = os.uname().machine
    assert built.file.name == f"hf_agent-{__version__}-cp311-abi3-linux_{machine}.whl"
    others = (".so", ".c", ".h", "hatch_build.py")
    assert [each for each in names(built.file) if each.endswith(others)] == [MODULE]
    with zipfile.ZipFile(built.file) as archive:
        archive.extractall(tmp_path / "installed")
    (meta,) = (tmp_path / "installed").glob("*.dist-info/WHEEL")
    lines = meta.read_text().splitlines()
    assert f"Tag: cp311-abi3-linux_{machine}" in lines
    assert "Root-Is-Purelib: false" in lines
    assert has_native(tmp_path / "installed")
    assert not list(source.rglob("*.so"))


@pytest.mark.parametrize("whether", ["0", "no"])
def test_a_wheel_is_pure_python_and_no_compiler_is_called_when_none_is_wanted(
    source: Path, in_place: Path, tmp_path: Path, whether: str
) -> None:
    in_place.write_bytes(b"an editable installation's")
    called = tmp_path / "called"
    compiler = program(tmp_path / "compiler", f"touch {called}")
    built = build(source, env={"HF_AGENT_NATIVE": whether, "CC": compiler})
    assert built.file.name == PURE
    assert MODULE not in names(built.file)
    assert not called.exists()
    with zipfile.ZipFile(built.file) as archive:
        archive.extractall(tmp_path / "installed")
    assert not has_native(tmp_path / "installed")


def test_without_a_compiler_the_wheel_is_pure_python_and_it_is_said_why(
    source: Path, in_place: Path
) -> None:
    in_place.write_bytes(b"an editable installation's")
    built = build(source, env={"CC": "no-such-cc"})
    assert built.file.name == PURE
    assert MODULE not in names(built.file)
    assert "hf_agent._native is not compiled: there is no C compiler 'no-such-cc'" in built.said
    assert "apt-get install gcc" in built.said
    assert "pure Python: the same results, slower" in built.said


def test_a_compiler_that_fails_is_quoted(source: Path, tmp_path: Path) -> None:
    compiler = program(tmp_path / "compiler", "echo 'no room for it' >&2", "exit 3")
    built = build(source, env={"CC": compiler})
    assert built.file.name == PURE
    assert f"the compiler fails with status 3: {compiler} -std=c11" in built.said
    assert "no room for it" in built.said


@pytest.mark.parametrize("whether", ["1", "require"])
def test_where_it_is_required_no_wheel_is_made_without_it(source: Path, whether: str) -> None:
    built = build(source, env={"HF_AGENT_NATIVE": whether, "CC": "no-such-cc"})
    assert built.made is None
    assert built.said == (
        f"hf_agent._native cannot be compiled, and HF_AGENT_NATIVE={whether} wants it: there is no "
        "C compiler 'no-such-cc' (Debian: apt-get install gcc libc6-dev; CC names another one)\n"
    )


def test_a_word_that_is_none_of_these_is_refused(source: Path) -> None:
    built = build(source, env={"HF_AGENT_NATIVE": "yes"})
    assert built.made is None
    assert built.said.splitlines() == [
        "HF_AGENT_NATIVE must be auto, require (or 1) or no (or 0), and is 'yes'"
    ]


@wants_a_compiler
def test_an_editable_installation_has_it_in_place_and_compiles_it_anew(
    source: Path, in_place: Path
) -> None:
    in_place.write_bytes(b"of older C")
    build(source, "editable", env=REQUIRE).file.unlink()
    assert has_native(source / "agent")


@pytest.mark.parametrize(
    ("environment", "goes_on"),
    [
        ({"HF_AGENT_NATIVE": "0"}, True),
        ({"CC": "no-such-cc"}, True),
        ({"CC": "false"}, True),
        ({"CC": "false", **REQUIRE}, False),
    ],
    ids=("left out", "no compiler", "it fails", "it fails and is required"),
)
def test_an_old_extension_does_not_stay_in_place_of_one_that_was_not_compiled(
    source: Path, in_place: Path, environment: dict[str, str], goes_on: bool
) -> None:
    in_place.write_bytes(b"of older C")
    built = build(source, "editable", env=environment)
    assert (built.made is not None) is goes_on, built.said
    assert not in_place.exists()


@wants_a_compiler
def test_a_source_distribution_builds_the_same_wheel(
    source: Path, in_place: Path, tmp_path: Path
) -> None:
    in_place.write_bytes(b"an editable installation's")
    archive = build(source, "sdist").file
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    native = ROOT / "agent" / "native"
    ours = {each.name for each in (*native.glob("*.c"), *native.glob("*.h"))}
    assert ours
    assert ours <= {each.name for each in (unpacked / "agent" / "native").iterdir()}
    assert not list(unpacked.rglob("*.so"))
    wheels = [build(each, env=REQUIRE).file for each in (source, unpacked)]
    assert wheels[0].name == wheels[1].name
    assert wheels[0].read_bytes() == wheels[1].read_bytes()


@wants_a_compiler
def test_flags_of_the_environment_come_last(source: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    compiler = program(tmp_path / "compiler", f'printf "%s\\n" "$@" >{seen}', 'shift; exec cc "$@"')
    built = build(
        source,
        env={
            **REQUIRE,
            "CC": f"{compiler} 'a word'",
            "CFLAGS": "-O1 -DA='b c'",
            "LDFLAGS": "-Wl,--as-needed",
        },
    )
    assert MODULE in names(built.file)
    words = seen.read_text().splitlines()
    assert words[0] == "a word"
    assert words.index("-O3") < words.index("-O1") < words.index("-DA=b c")
    assert words.index("-shared") < words.index("-Wl,--as-needed")
    assert not [each for each in words if each.endswith(".c") and os.path.isabs(each)]


def compile_here(tmp_path: Path) -> str:
    """Why `compile_extension` cannot, in this process; "" when it can."""
    script = runpy.run_path(str(ROOT / "hatch_build.py"))
    error: Any = script["CannotCompileError"]
    try:
        script["compile_extension"](ROOT, tmp_path / "out.so")
    except error as reason:
        return str(reason)
    return ""


@wants_a_compiler
def test_no_warning_comes_of_our_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFLAGS", "-Werror")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("LDFLAGS", raising=False)
    assert compile_here(tmp_path) == ""


def test_it_is_said_which_header_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "true")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert compile_here(tmp_path) == (
        f"there is no Python.h in {tmp_path} (Debian: apt-get install python3-dev)"
    )


def test_it_is_said_which_python_has_no_stable_abi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: int(name == "Py_GIL_DISABLED"))
    assert "no stable ABI" in compile_here(tmp_path)


def test_elsewhere_than_on_linux_it_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert compile_here(tmp_path) == "it is for Linux only"


def test_a_quote_that_is_not_closed_is_told_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "gcc '")
    assert compile_here(tmp_path) == "CC cannot be read: No closing quotation"
