"""The numbers of the page on Kubernetes are those of the manifests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.manifests import CHART, KUBERNETES, Manifests, helm, kustomize
from support.readme import ROOT

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
