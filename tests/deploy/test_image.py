"""The Dockerfile, read; the image that it makes is built in test_image_build."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hf_agent import __version__
from hf_agent.cli.main import cli
from support.dockerfile import Dockerfile, Stage
from support.readme import ROOT

COMPILERS = ("gcc", "g++", "clang", "build-essential", "cargo", "rustc", "-dev", "make")
PACKAGE_MANAGERS = ("apt-get", "apk ", "apt ", "pip ", "uv ")


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return Dockerfile((ROOT / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def final(dockerfile: Dockerfile) -> Stage:
    return dockerfile.stages[-1]


def test_a_linter_finds_nothing_to_say() -> None:
    # It comes with the extra, and its environment need not be the shell's.
    beside = os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent)))
    hadolint = shutil.which("hadolint", path=beside)
    if hadolint is None:
        pytest.skip("hadolint is not installed (extra `test`)")
    done = subprocess.run(
        [hadolint, "--no-color", str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_agent_runs_as_user_10001_by_number(final: Stage) -> None:
    assert final.last("USER") == "10001:10001"
    (accounts,) = [each for each in final.all("RUN") if "useradd" in each]
    assert "groupadd --gid 10001" in accounts
    assert "useradd --uid 10001 --gid 10001" in accounts


def test_the_final_stage_installs_nothing_and_has_no_compiler(final: Stage) -> None:
    for command in final.all("RUN"):
        assert not [each for each in (*COMPILERS, *PACKAGE_MANAGERS) if each in command]


def test_the_agent_is_not_built_without_its_loops_in_c(dockerfile: Dockerfile) -> None:
    built = [each for each in dockerfile.stages[0].all("RUN") if "pip wheel" in each]
    assert len(built) == 1
    assert built[0].startswith("HF_AGENT_NATIVE=require ")


def test_only_what_is_missing_is_installed_to_compile_with(dockerfile: Dockerfile) -> None:
    (tools,) = [each for each in dockerfile.stages[0].all("RUN") if "apt-get" in each]
    install = "apt-get install -y --no-install-recommends"
    assert f"{{ command -v cc || {install} gcc libc6-dev; }}" in tools
    assert f'{{ [ -e "$header" ] || {install} python3-dev; }}' in tools


def test_no_dependency_is_compiled_because_only_wheels_are_taken(dockerfile: Dockerfile) -> None:
    installs = [
        command
        for stage in dockerfile.stages
        for run in stage.all("RUN")
        for command in re.split(r"&&", run)
        if "pip install" in command and "/tmp/wheel" not in command
    ]
    assert len(installs) == 2
    for command in installs:
        assert "--only-binary :all:" in command
        assert "--require-hashes" in command
        assert re.search(r"-r requirements/\w+\.txt", command)


def test_the_slim_base_is_the_same_in_both_stages(dockerfile: Dockerfile) -> None:
    assert [stage.base for stage in dockerfile.stages] == ["${BASE}", "${BASE}"]
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+", dockerfile.arguments["BASE"])


def test_no_step_depends_on_the_architecture(dockerfile: Dockerfile) -> None:
    text = "\n".join(dockerfile.instructions)
    for word in ("x86_64", "aarch64", "amd64", "arm64", "TARGETARCH", "--platform"):
        assert word not in text


def test_the_final_stage_takes_from_the_build_only_what_runs(final: Stage) -> None:
    assert final.all("COPY") == ["--from=build /opt/hf-agent /opt/hf-agent"]


def test_nothing_has_to_be_written_outside_the_volumes(final: Stage) -> None:
    # A read-only root: byte code is there already, and the directories that are written are mounts.
    environment = " ".join(final.all("ENV"))
    assert "PYTHONDONTWRITEBYTECODE=1" in environment
    assert json.loads(final.last("VOLUME")) == [final.last("WORKDIR")]


def test_signals_reach_the_agent_because_it_is_started_without_a_shell(final: Stage) -> None:
    entry = json.loads(final.last("ENTRYPOINT"))
    assert entry == ["hf-agent"]
    assert entry[0] in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    known = {option for each in cli.params for option in each.opts}
    arguments = json.loads(final.last("CMD"))
    assert all(each in known for each in arguments if each.startswith("-"))
    assert final.last("STOPSIGNAL") == "SIGTERM"


def test_the_health_check_asks_what_a_store_that_is_away_does_not_change(final: Stage) -> None:
    options, _, command = final.last("HEALTHCHECK").partition("CMD ")
    for option in ("--interval=", "--timeout=", "--start-period=", "--retries="):
        assert option in options
    program = json.loads(command)
    assert program[0] == "python3"  # no shell, no curl: neither has to be in the image
    assert "http://127.0.0.1:9477/healthz" in program[-1]
    served = re.findall(
        r'add_get\("([^"]+)"', (ROOT / "agent" / "hf_agent" / "web" / "server.py").read_text()
    )
    assert "/healthz" in served


def test_the_image_is_labelled(dockerfile: Dockerfile, final: Stage) -> None:
    labels = dict(
        re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', final.last("LABEL"))
    )
    assert labels["title"] == "hf-agent"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == "${VERSION}"
    assert labels["revision"] == "${REVISION}"
    assert labels["base.name"] == dockerfile.arguments["BASE"]
    assert "ARG VERSION=" + __version__ in final.instructions


def test_the_build_context_holds_what_is_copied(dockerfile: Dockerfile) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    for copied in dockerfile.stages[0].all("COPY"):
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists()
            assert source.split("/")[0] in kept
