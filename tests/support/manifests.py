"""Kubernetes objects as kustomize and Helm make them of what is in deploy/."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_agent.config import Config, load
from support.readme import ROOT

__all__ = [
    "CHART",
    "KUBERNETES",
    "MONITORING",
    "OVERLAYS",
    "Manifests",
    "helm",
    "kustomize",
    "lint",
    "refusal",
]

KUBERNETES = ROOT / "deploy" / "kubernetes"
CHART = ROOT / "deploy" / "helm" / "hf-agent"
OVERLAYS = ("directory", "s3", "s3-express")
"""Names in both places: overlays of one, examples of values of the other."""
MONITORING = tuple(
    f"monitoring.coreos.com/v1/{kind}"
    for kind in ("PodMonitor", "ServiceMonitor", "PrometheusRule")
)
"""Kinds that a cluster with the Prometheus operator has."""


class Manifests:
    """The objects of one rendering."""

    def __init__(self, text: str) -> None:
        self.objects: list[dict[str, Any]] = [each for each in yaml.safe_load_all(text) if each]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        (only,) = self.all(kind)
        return only

    @property
    def pod(self) -> dict[str, Any]:
        """The agent's pod."""
        spec: dict[str, Any] = self.one("DaemonSet")["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> dict[str, Any]:
        (only,) = self.pod["containers"]
        assert isinstance(only, dict)
        return only

    @property
    def init(self) -> dict[str, Any]:
        (only,) = self.pod["initContainers"]
        assert isinstance(only, dict)
        return only

    def host_path(self, mount_path: str) -> dict[str, Any]:
        """The hostPath behind a mount of the agent."""
        (name,) = [
            each["name"]
            for each in self.container["volumeMounts"]
            if each["mountPath"] == mount_path
        ]
        (volume,) = [each for each in self.pod["volumes"] if each["name"] == name]
        path: dict[str, Any] = volume["hostPath"]
        return path

    def config_map(self) -> dict[str, Any]:
        """That which the pod mounts as its configuration."""
        (volume,) = [each for each in self.pod["volumes"] if "configMap" in each]
        return self._named(volume["configMap"]["name"])

    def environment(self) -> dict[str, str]:
        """Of the agent's container, on a node called `node-1`."""
        found: dict[str, str] = {}
        for source in self.container.get("envFrom", []):
            found |= self._named(source["configMapRef"]["name"]).get("data") or {}
        for each in self.container["env"]:
            if "value" in each:
                found[each["name"]] = each["value"]
            else:
                assert each["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
                found[each["name"]] = "node-1"
        return found

    def write_config(self, folder: Path) -> Path:
        """The file as the container finds it."""
        path = folder / "agent.toml"
        path.write_text(self.config_map()["data"]["agent.toml"])
        return path

    def config(self, folder: Path) -> Config:
        return load(self.write_config(folder), environment=self.environment())

    def _named(self, name: str) -> dict[str, Any]:
        (only,) = [each for each in self.all("ConfigMap") if each["metadata"]["name"] == name]
        return only


def kustomize(folder: Path) -> Manifests:
    """What `kubectl apply -k folder` would apply."""
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize"]
    elif program := shutil.which("kustomize"):
        command = [program, "build"]
    else:
        pytest.skip("neither kubectl nor kustomize is installed")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return Manifests(done.stdout)


def helm(
    values: Sequence[Path] = (), *settings: str, kinds: Sequence[str] = (), release: str = "logs"
) -> Manifests:
    """What `helm install release` would apply in a cluster that has `kinds` beside its own."""
    done = _template(values, settings, kinds, release)
    assert done.returncode == 0, done.stderr
    return Manifests(done.stdout)


def refusal(*settings: str) -> str:
    """What is said of values that are refused, beside a URL of a store."""
    done = _template((), ("config.store.url=s3://bucket/logs", *settings), (), "logs")
    assert done.returncode != 0, "these values were taken"
    return done.stderr


def lint(values: Path) -> str:
    """What Helm says of the chart with these values; fails where it warns."""
    done = subprocess.run(
        [_helm(), "lint", "--strict", str(CHART), "--values", str(values)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _helm() -> str:
    program = os.environ.get("HF_AGENT_HELM") or shutil.which("helm")
    if program is None:
        pytest.skip("helm is not installed: name it in HF_AGENT_HELM")
    return program


def _template(
    values: Sequence[Path], settings: Sequence[str], kinds: Sequence[str], release: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(_helm(), "template", release, str(CHART), "--namespace", "logging"),
            # A helm that is built from its module believes in a cluster of long ago.
            *("--kube-version", "1.31.0"),
            *(part for each in values for part in ("--values", str(each))),
            *(part for each in settings for part in ("--set", each)),
            *(part for each in kinds for part in ("--api-versions", each)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
