"""The files in deploy/ and the Dockerfile name paths, flags and keys that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_agent import __version__
from hf_agent.cli.main import cli
from hf_agent.config import Config, parse
from support.readme import ROOT

DEPLOY = ROOT / "deploy"


def flags_exist(arguments: list[str]) -> bool:
    known = {option for each in cli.params for option in each.opts}
    return all(argument in known for argument in arguments if argument.startswith("-"))


class Manifest:
    """The objects in the Kubernetes manifest."""

    def __init__(self) -> None:
        text = (DEPLOY / "kubernetes" / "daemonset.yaml").read_text()
        self.objects: dict[str, Any] = {each["kind"]: each for each in yaml.safe_load_all(text)}
        self.pod = self.objects["DaemonSet"]["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.mounts = {each["mountPath"]: each["name"] for each in self.container["volumeMounts"]}

    def config(self) -> Config:
        text = self.objects["ConfigMap"]["data"]["agent.toml"]
        return parse(text, environment={each["name"]: "value" for each in self.container["env"]})


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest()


def test_the_manifests_configuration_is_right_with_its_own_environment(manifest: Manifest) -> None:
    config = manifest.config()
    assert config.agent.node == "value"
    assert "{node}" in config.store.key


def test_the_manifest_mounts_what_its_configuration_uses(manifest: Manifest) -> None:
    config = manifest.config()
    volumes = {each["name"] for each in manifest.pod["volumes"]}
    assert set(manifest.mounts.values()) == volumes
    assert config.agent.data_dir in manifest.mounts
    for listen in config.listen:
        assert str(Path(listen.path).parent) in manifest.mounts
    arguments = manifest.container["args"]
    assert flags_exist(arguments)
    assert str(Path(arguments[arguments.index("--config") + 1]).parent) in manifest.mounts


def test_the_manifest_probes_paths_that_the_agent_serves(manifest: Manifest) -> None:
    served = set(re.findall(r'add_get\("([^"]+)"', server_source()))
    (port,) = manifest.container["ports"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        request = manifest.container[probe]["httpGet"]
        assert request["path"] in served
        assert request["port"] == port["name"]
    assert manifest.config().http.listen == f":{port['containerPort']}"
    # A store that is away must not restart the agent.
    assert manifest.container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_the_manifest_gives_the_stop_more_time_than_the_agent_takes(manifest: Manifest) -> None:
    grace = manifest.pod["terminationGracePeriodSeconds"]
    assert grace > manifest.config().flush.shutdown_timeout


def test_image_user_and_version_are_the_same_everywhere(manifest: Manifest) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    image = f"hf-agent:{__version__}"
    for container in (*manifest.pod["initContainers"], manifest.container):
        assert container["image"] == image
    assert f"-t {image} ." in dockerfile
    user = manifest.container["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in dockerfile
    assert user["runAsUser"] != 0


def server_source() -> str:
    return (ROOT / "agent" / "hf_agent" / "web" / "server.py").read_text()
