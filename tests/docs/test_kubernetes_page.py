"""The numbers of the page on Kubernetes are those of the manifests."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from support.manifests import CHART, KUBERNETES, MONITORING, Manifests, helm, kustomize
from support.readme import ROOT, block

PAGE = ROOT / "docs" / "kubernetes.md"
MIB, GIB = 1 << 20, 1 << 30


def numbers() -> dict[str, str]:
    """Key of the configuration, or of the pod, to its value as the table writes it."""
    table = PAGE.read_text().split("<!-- numbers -->")[1].split("\n\n")[0]
    return {key: value for value, key in re.findall(r"\| ([0-9][^|]*?) \| `([^`]+)`", table)}


@pytest.fixture(params=["kustomize", "helm"])
def manifests(request: pytest.FixtureRequest) -> Manifests:
    if request.param == "kustomize":
        return kustomize(KUBERNETES / "overlays" / "s3")
    return helm([CHART / "examples" / "s3.yaml"])


def test_the_numbers_are_what_the_manifests_set(manifests: Manifests, tmp_path: Path) -> None:
    config = manifests.config(tmp_path)
    grace = manifests.pod["terminationGracePeriodSeconds"]
    assert numbers() == {
        "flush.interval": f"{config.flush.interval:g} s",
        "flush.bytes": f"{config.flush.bytes // MIB} MiB",
        "flush.shutdown_timeout": f"{config.flush.shutdown_timeout:g} s",
        "terminationGracePeriodSeconds": f"{grace} s",
        "wal.max_bytes": f"{config.wal.max_bytes // GIB} GiB",
    }


def test_the_alerts_of_the_page_are_those_of_the_chart() -> None:
    command, last = block("docs/kubernetes.md", "kubernetes-alerts", "sh").rsplit("|", 1)
    assert last.split() == ["kubectl", "apply", "--filename", "-"]
    done = subprocess.run(
        ["bash", "-euc", command], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    made = yaml.safe_load(done.stdout)
    settings = ("config.store.url=s3://bucket/logs",)
    charts = helm((), *settings, kinds=MONITORING).one("PrometheusRule")
    assert {key: made[key] for key in ("apiVersion", "kind", "spec")} == {
        key: charts[key] for key in ("apiVersion", "kind", "spec")
    }


def test_what_is_derived_from_them_is_right(manifests: Manifests, tmp_path: Path) -> None:
    config = manifests.config(tmp_path)
    text = " ".join(PAGE.read_text().split())
    seconds = config.wal.max_bytes // MIB
    hours, rest = divmod(seconds, 3600)
    assert f"after {seconds} s, or {hours} h {rest // 60} min" in text
    grace = manifests.pod["terminationGracePeriodSeconds"]
    assert f"shutdownGracePeriodCriticalPods: {grace}s" in text
    assert f"shutdownGracePeriod: {grace + 30}s" in text
    flushes = config.flush.concurrency * config.flush.bytes
    memory = config.agent.receive_buffer_bytes + config.wal.max_pending_bytes + flushes
    assert f"{memory // MIB} MiB by these limits" in text
    limit = manifests.container["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) * MIB > memory
    assert f"at 50 MB/s to the store that is {config.flush.shutdown_timeout * 0.05:g} GB" in text
