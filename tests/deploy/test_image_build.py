"""The image, built by buildah, which needs no daemon, and the agent run in its root file system.

HF_AGENT_TEST_BASE names the base image, as docker.io/library/python:3.12-slim-bookworm, or one that
buildah has in its storage already; HF_AGENT_TEST_BUILDAH is the command with its options, if it is
not `buildah`. Takes minutes, and a package index.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_agent import __version__
from support.readme import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        "HF_AGENT_TEST_BASE" not in os.environ,
        reason="builds an image: set HF_AGENT_TEST_BASE to its base",
    ),
]

IMAGE = "localhost/hf-agent-test:latest"

ENTER = """
set -eu
root=$1 data=$2
mount --bind "$root" "$root"
for place in var/lib/hf-agent run/hf-agent; do mount --bind "$data/$place" "$root/$place"; done
mount --bind "$data/etc" "$root/etc/hf-agent"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -o remount,bind,ro "$root"
shift 2
exec chroot "$root" \
  setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set -all "$@"
"""
"""Read-only but for what is mounted, no capability, user 10001: as the manifests have it."""

SCRIPT = r"""
set -eu
cd /var/lib/hf-agent
echo "user $(id -u):$(id -g)"
if touch /opt/file 2>/dev/null; then echo the root can be written to; exit 1; fi
for program in gcc cc c99 cpp as ld g++ clang make cargo pip; do
  if [ -x "/opt/hf-agent/bin/$program" ] || command -v "$program"; then exit 1; fi
done
python3 -c 'from hf_agent import _native; print(_native.__name__)'
hf-agent --config /etc/hf-agent/agent.toml 2>/tmp-log/agent.log &
agent=$!
while ! [ -S /run/hf-agent/append.sock ]; do kill -0 "$agent"; sleep 0.1; done
HEALTHCHECK
echo from the image | hf-agent append --socket /run/hf-agent/append.sock --stream demo >/dev/null
kill -TERM "$agent"
wait "$agent"
echo "stopped with $?"
hf-agent cat file:///var/lib/hf-agent/store/node-1/demo
"""


def buildah(*arguments: str) -> str:
    command = shlex.split(os.environ.get("HF_AGENT_TEST_BUILDAH", "buildah"))
    if shutil.which(command[0]) is None:
        pytest.skip("buildah is not installed")
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def image() -> dict[str, Any]:
    buildah(
        *("bud", "--layers", "--isolation", "chroot", "--network", "host", "--format", "docker"),
        *("--build-arg", f"BASE={os.environ['HF_AGENT_TEST_BASE']}"),
        *("--build-arg", "REVISION=0123abc", "--tag", IMAGE, str(ROOT)),
    )
    found: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", IMAGE))
    return found


@pytest.fixture(scope="module")
def root(image: dict[str, Any]) -> Iterator[Path]:
    container = buildah("from", IMAGE).strip()
    try:
        yield Path(buildah("mount", container).strip())
    finally:
        buildah("rm", container)


def test_the_image_says_what_it_is_and_how_it_is_run(image: dict[str, Any]) -> None:
    config = image["Docker"]["config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["hf-agent"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.revision"] == "0123abc"


def test_the_image_has_byte_code_of_every_module(root: Path) -> None:
    (package,) = (root / "opt" / "hf-agent" / "lib").glob("python3*/site-packages/hf_agent")
    modules = {path.stem for path in package.rglob("*.py")}
    compiled = {path.name.split(".")[0] for path in package.rglob("__pycache__/*.pyc")}
    assert modules == compiled


def test_the_loops_in_c_are_in_the_image_and_what_compiled_them_is_not(root: Path) -> None:
    (package,) = (root / "opt" / "hf-agent" / "lib").glob("python3*/site-packages/hf_agent")
    assert [each.name for each in package.glob("*.so")] == ["_native.abi3.so"]
    tools = re.compile(r"(.*-)?(cc|gcc|g\+\+|cpp|clang|as|ld|cc1|collect2)(-[\d.]+)?")
    found = [
        str(path)
        for place in ("opt", "usr/bin", "usr/lib", "usr/libexec", "usr/local")
        for path in (root / place).rglob("*")
        if tools.fullmatch(path.name) and path.is_file() and os.access(path, os.X_OK)
    ]
    assert found == []


def test_the_agent_runs_in_the_image_read_only_and_without_rights(
    image: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    for place in ("var/lib/hf-agent", "run/hf-agent", "etc"):
        (tmp_path / place).mkdir(parents=True)
        os.chown(tmp_path / place, 10001, 10001)
    (tmp_path / "etc" / "agent.toml").write_text(
        """
[agent]
node = "node-1"
[[listen]]
path = "/run/hf-agent/append.sock"
[store]
url = "file:///var/lib/hf-agent/store"
"""
    )
    probe = shlex.join(image["Docker"]["config"]["Healthcheck"]["Test"][1:])
    script = SCRIPT.replace("HEALTHCHECK", probe).replace("/tmp-log/", "/var/lib/hf-agent/")
    path = next(each for each in image["Docker"]["config"]["Env"] if each.startswith("PATH="))
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"),
            *("--net", "sh", "-c", 'ip link set lo up 2>/dev/null; exec sh -c "$0" enter "$@"'),
            *(ENTER, str(root), str(tmp_path)),
            *("env", "-i", path, "PYTHONDONTWRITEBYTECODE=1", "sh", "-c", script),
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        *("user 10001:10001", "hf_agent._native", "stopped with 0", "from the image")
    ]
