"""What is kustomize's own: digests in names, the component for Prometheus, the example."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.agent_process import AgentProcess
from support.containers import read_container
from support.manifests import KUBERNETES, kustomize


def overlay(folder: Path, text: str) -> Path:
    """A user's own overlay, elsewhere."""
    folder.mkdir(exist_ok=True)
    (folder / "kustomization.yaml").write_text(text)
    return folder


def test_a_change_of_the_configuration_gives_the_pods_another_config_map(tmp_path: Path) -> None:
    base = os.path.relpath(KUBERNETES / "overlays" / "s3", tmp_path)
    (tmp_path / "agent.toml").write_text("# another one\n")
    changed = kustomize(
        overlay(
            tmp_path,
            f"resources: [{base}]\nnamespace: hf-agent\n"
            "configMapGenerator:\n"
            "  - {name: hf-agent, behavior: replace, files: [agent.toml]}\n",
        )
    )
    plain = kustomize(KUBERNETES / "overlays" / "s3")
    names = [each.config_map()["metadata"]["name"] for each in (plain, changed)]
    assert names[0] != names[1]
    assert changed.config_map()["data"] == {"agent.toml": "# another one\n"}


def test_the_component_for_the_prometheus_operator_finds_the_agents(tmp_path: Path) -> None:
    base = os.path.relpath(KUBERNETES / "overlays" / "s3", tmp_path)
    component = os.path.relpath(KUBERNETES / "components" / "prometheus-operator", tmp_path)
    rendered = kustomize(
        overlay(tmp_path, f"resources: [{base}]\ncomponents: [{component}]\nnamespace: hf-agent\n")
    )
    monitor = rendered.one("PodMonitor")
    labels = rendered.one("DaemonSet")["spec"]["template"]["metadata"]["labels"]
    assert monitor["metadata"]["namespace"] == "hf-agent"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {each["name"] for each in rendered.container["ports"]}
    assert {"targetLabel": "job", "replacement": "hf-agent"} in endpoint["relabelings"]


def test_the_namespace_admits_volumes_of_the_host() -> None:
    namespace = kustomize(KUBERNETES / "overlays" / "s3").one("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((KUBERNETES / "example-app.yaml").read_text())
    return found


def test_the_example_mounts_the_directory_of_the_sockets_read_only(
    example: dict[str, Any],
) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(example, "1.34", strict=True)
    pod = example["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    (mount,) = container["volumeMounts"]
    assert (mount["name"], mount["readOnly"]) == (volume["name"], True)
    agent = kustomize(KUBERNETES / "overlays" / "s3")
    assert volume["hostPath"] == agent.host_path("/run/hf-agent")
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 10001


async def test_the_program_of_the_example_has_its_lines_stored(
    example: dict[str, Any], tmp_path: Path
) -> None:
    (container,) = example["spec"]["template"]["spec"]["containers"]
    _, option, program = container["command"]
    agent = AgentProcess(tmp_path / "a").start()
    try:
        once = program.replace("/run/hf-agent/append.sock", str(agent.append_socket))
        once = once.replace("time.sleep(1)", "break")
        assert once.count("break") == 1
        subprocess.run(
            [sys.executable, option, once], check=True, timeout=60, env={"POD_NAME": "pod-1"}
        )
        assert agent.stop() == 0, agent.log_text()
    finally:
        agent.close()
    assert (await read_container(agent, "node-1/example/pod-1")).endswith(b" alive\n")
