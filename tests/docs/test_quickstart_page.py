"""What docs/quickstart.md has somebody paste brings bytes to the store, in each of its ways."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.manifests import Manifests
from support.moto_s3 import MotoS3, moto_s3
from support.newcomer import Newcomer, free_port
from support.readme import ROOT, block, marked

__all__ = ["moto_s3"]

PAGE = "docs/quickstart.md"
BYTES = "my first bytes\n"


def pasted(name: str) -> str:
    return block(PAGE, f"quickstart-{name}", "sh")


def split(name: str) -> tuple[str, str]:
    """What is run before the agent, and the line that runs it."""
    before, _, last = pasted(name).strip().rpartition("\n")
    return before, last


def test_the_agent_is_installed_as_readme_does_it() -> None:
    (line,) = marked("run-command")
    assert pasted("install").split("\n")[:2] == line.split(" && ")[:2]


def test_on_a_host_with_a_directory(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    before, run = split("directory-run")
    assert f"\nstore file://{tmp_path}/quickstart/store: ok\n" in newcomer.paste(before)
    with newcomer.running(run):
        shown = newcomer.paste(pasted("directory-use"))
    assert shown.startswith(f"acknowledged {len(BYTES)} bytes in 1 append")
    assert f"{os.uname().nodename}/first" in shown
    assert shown.endswith(f"\n{BYTES}")
    # The page says that removing one folder and the file removes everything.
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {".venv", "config", "deploy", "quickstart", "quickstart.toml"}


def test_on_a_host_with_s3(tmp_path: Path, moto_s3: MotoS3) -> None:
    region = 'region = "us-east-1"'
    # The server of the test in the place of Amazon's, by the two keys that the page names for it.
    assert "add `endpoint_url = " in (ROOT / PAGE).read_text()
    server = f'{region}\nendpoint_url = "{moto_s3.endpoint_url}"\naddressing = "path"'
    newcomer = Newcomer(tmp_path, {"my-bucket": moto_s3.make_bucket(), region: server})
    newcomer.environment |= moto_s3.env
    before, run = split("s3-run")
    assert re.search(r"^store s3://.*/quickstart: ok$", newcomer.paste(before), re.M)
    with newcomer.running(run):
        shown = newcomer.paste(pasted("s3-use"))
    assert f"{os.uname().nodename}/first" in shown
    assert shown.endswith(f"\n{BYTES}")


# -- a cluster --------------------------------------------------------------------------------

NODE = "node-1"
POD = "pod/logs-hf-agent-x7k2p"


class Cluster:
    """Programs that stand for docker, kubectl and a cluster of one node; Helm is Helm itself.

    `helm install` renders the chart, `kubectl exec` runs a command with the pod's directories and
    environment in their places on this machine. What was called is in `calls`.
    """

    def __init__(self, newcomer: Newcomer) -> None:
        self.newcomer = newcomer
        self.calls = newcomer.folder / "calls"
        self.rendered = newcomer.folder / "rendered.yaml"
        self.secret = newcomer.folder / "secret"
        real = os.environ.get("HF_AGENT_HELM") or shutil.which("helm")
        if real is None:
            pytest.skip("helm is not installed: name it in HF_AGENT_HELM")
        self._program("docker", "")
        self._program(
            "helm",
            f'[ "$1" = install ]; shift; exec {shlex.quote(real)} template "$@" '
            f"--kube-version 1.31.0 > {self.rendered}",
        )
        # Where there is a kubectl, it says whether what is made can be made.
        check = shutil.which("kubectl")
        create = f'{check} "$@" --dry-run=client --output json' if check else "true"
        self._program(
            "kubectl",
            f"""
case "$*" in
  *"create secret"*) {create} > {self.secret} ;;
  *"create namespace"*) {create} > /dev/null ;;
  *"get pods --selector app.kubernetes.io/instance=logs --output name") echo {POD} ;;
  *" exec "*)
    while [ "$1" != -- ]; do pod=$1; shift; done; shift
    [ "$pod" = {POD} ]
    exec {newcomer.folder}/in-pod "$@" ;;
esac
""",
        )
        newcomer.environment["PATH"] = f"{newcomer.programs}:{os.environ['PATH']}"

    def _program(self, name: str, lines: str) -> None:
        log = f'printf "%s\\n" "{name} $*" >> {self.calls}'
        self.newcomer.script(self.newcomer.programs / name, f"set -eu\n{log}\n{lines}")

    def start_pod(self, manifests: Manifests) -> str:
        """Make the pod's file system and environment; returns the agent's command."""
        folder, http = self.newcomer.folder, free_port()
        places = {
            "/var/lib/hf-agent": f"{folder}/data",
            "/run/hf-agent": f"{folder}/run",
            "/etc/hf-agent": f"{folder}/etc",
            '":9477"': f'"{http}"',
        }
        for name in ("data", "run", "etc"):
            (folder / name).mkdir()
        text = manifests.config_map()["data"]["agent.toml"]
        for old, new in places.items():
            text = text.replace(old, new)
        (folder / "etc" / "agent.toml").write_text(text)
        environment = {"NODE_NAME": NODE, **self._secret(manifests)}
        inside = "".join(f"export {name}={shlex.quote(x)}\n" for name, x in environment.items())
        mapped = " ".join(f"-e 's|{old}|{new}|g'" for old, new in places.items() if '"' not in old)
        self.newcomer.script(
            folder / "in-pod",
            f"""set -eu
{inside}
for argument in "$@"; do
  shift
  set -- "$@" "$(printf %s "$argument" | sed {mapped})"
done
exec "$@"
""",
        )
        arguments = shlex.join(manifests.container["args"])
        return f"{folder}/in-pod {self.newcomer.programs}/hf-agent {arguments}"

    def _secret(self, manifests: Manifests) -> dict[str, str]:
        """The pod's environment from the secret that was made, by the name that it was given."""
        (source,) = manifests.container["envFrom"]
        name = source["secretRef"]["name"]
        calls = self.calls.read_text()
        created = "kubectl --namespace logging create secret generic "
        (made,) = re.findall(rf"^{created}(.*)$", calls, re.M)
        assert made.split()[0] == name
        if self.secret.stat().st_size:
            parsed: dict[str, Any] = json.loads(self.secret.read_text())
            assert {"name": name, "namespace": "logging"}.items() <= parsed["metadata"].items()
        return dict(re.findall(r"--from-literal=(\w+)=(\S+)", made))


@pytest.fixture
def cluster(tmp_path: Path, moto_s3: MotoS3) -> Iterator[Cluster]:
    region = "config.store.s3.region=us-east-1"
    server = (
        f"{region} --set config.store.s3.endpoint_url={moto_s3.endpoint_url}"
        " --set config.store.s3.addressing=path"
    )
    newcomer = Newcomer(tmp_path, {"my-bucket": moto_s3.make_bucket(), region: server})
    newcomer.environment |= moto_s3.env
    yield Cluster(newcomer)


def test_on_a_cluster_with_helm(cluster: Cluster) -> None:
    newcomer = cluster.newcomer
    newcomer.paste(pasted("helm-install"))
    manifests = Manifests(cluster.rendered.read_text())
    calls = cluster.calls.read_text()
    # The image that is pushed is the one that the pods want, and it is waited for what was made.
    for program in ("build --tag", "push"):
        assert f"docker {program} {manifests.container['image']}" in calls
    assert f"rollout status daemonset/{manifests.one('DaemonSet')['metadata']['name']} " in calls
    labels = manifests.one("DaemonSet")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/instance"] == "logs"
    with newcomer.running(cluster.start_pod(manifests)):
        shown = newcomer.paste(pasted("helm-use"))
    assert f"{NODE}/first" in shown
    assert shown.endswith(f"\n{BYTES}")
