"""What both ways of deploying to Kubernetes make: the same points, of each of their renderings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from hf_agent import __version__
from hf_agent.cli.main import cli
from hf_agent.config import Config
from support.manifests import CHART, KUBERNETES, MONITORING, OVERLAYS, Manifests, helm, kustomize
from support.readme import ROOT

VERSIONS = ("1.29", "1.34")
"""Of Kubernetes, whose schemas are asked."""


@pytest.fixture(
    scope="module",
    params=[f"{tool}-{name}" for tool in ("kustomize", "helm") for name in OVERLAYS],
)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    tool, _, name = request.param.partition("-")
    if tool == "kustomize":
        return kustomize(KUBERNETES / "overlays" / name)
    return helm([CHART / "examples" / f"{name}.yaml"], kinds=MONITORING)


@pytest.fixture
def config(manifests: Manifests, tmp_path: Path) -> Config:
    return manifests.config(tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_what_kubernetes_takes(manifests: Manifests, version: str) -> None:
    core = [each for each in manifests.objects if "monitoring.coreos.com" not in each["apiVersion"]]
    assert len(core) >= 4
    for each in core:
        kubernetes_validate.validate(each, version, strict=True)


def test_a_misspelt_field_would_be_found(manifests: Manifests) -> None:
    daemon_set = manifests.one("DaemonSet")
    broken = {**daemon_set, "spec": {**daemon_set["spec"], "updateStrategie": {}}}
    with pytest.raises(kubernetes_validate.ValidationError, match="updateStrategie"):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_the_configuration_passes_check_config(manifests: Manifests, tmp_path: Path) -> None:
    path = manifests.write_config(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "hf_agent", "check-config", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], **manifests.environment()},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_node_has_a_name_of_its_own_in_the_store(config: Config) -> None:
    assert config.agent.node == "node-1"
    assert config.store.key.startswith("{node}/")


def test_an_agent_runs_on_every_linux_node_whatever_its_taints(manifests: Manifests) -> None:
    assert manifests.pod["tolerations"] == [{"operator": "Exists"}]
    assert manifests.pod["nodeSelector"]["kubernetes.io/os"] == "linux"


def test_a_node_never_has_two_agents_during_an_update(manifests: Manifests) -> None:
    strategy = manifests.one("DaemonSet")["spec"]["updateStrategy"]
    assert strategy["type"] == "RollingUpdate"
    assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_nothing_drives_the_agent_from_its_node(manifests: Manifests) -> None:
    assert manifests.pod["priorityClassName"] == "system-node-critical"


def test_wal_and_sockets_are_directories_of_the_host_that_are_made_if_missing(
    manifests: Manifests, config: Config
) -> None:
    for path in ("/var/lib/hf-agent", "/run/hf-agent"):
        assert manifests.host_path(path) == {"path": path, "type": "DirectoryOrCreate"}
    assert config.agent.data_dir == "/var/lib/hf-agent"
    assert Path(config.wal.dir).parent == Path(config.agent.data_dir)
    # Directories: a socket that were mounted itself would be a dead one after a restart.
    assert {str(Path(each.path).parent) for each in config.listen} == {"/run/hf-agent"}


def test_the_init_container_hands_the_directories_over_with_chown_alone(
    manifests: Manifests,
) -> None:
    init = manifests.init
    program, user, *paths = init["command"]
    assert (program, user) == ("chown", "10001:10001")
    assert {"/var/lib/hf-agent", "/run/hf-agent"} <= set(paths)
    assert set(paths) == {each["mountPath"] for each in init["volumeMounts"]}
    context = init["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True


def test_the_init_container_gets_by_with_chown_alone(manifests: Manifests, tmp_path: Path) -> None:
    program, user, *paths = manifests.init["command"]
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can take capabilities away, with setpriv")
    # As root with that one capability; what the container drops cannot be had back.
    only = ("setpriv", "--bounding-set=-all,+chown", "--inh-caps=-all", "--no-new-privs")
    places = [tmp_path / path.strip("/") for path in paths]
    for made in places:
        made.mkdir(parents=True)
    for _ in range(2):  # as the kubelet makes them, and as the agent of before has left them
        subprocess.run([*only, program, user, *map(str, places)], check=True, timeout=60)
        for place in places:
            assert (place.stat().st_uid, place.stat().st_gid) == (10001, 10001)
            place.chmod(0o700)


def test_the_agent_is_as_restricted_as_pods_can_be(manifests: Manifests) -> None:
    context = manifests.container["securityContext"]
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    pod = manifests.pod
    assert pod["securityContext"] == {
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert pod["automountServiceAccountToken"] is False


def test_what_the_agent_writes_is_mounted_since_its_root_is_read_only(
    manifests: Manifests, config: Config
) -> None:
    mounts = {each["mountPath"]: each for each in manifests.container["volumeMounts"]}
    volumes = {each["name"] for each in manifests.pod["volumes"]}
    assert {each["name"] for each in mounts.values()} == volumes
    assert config.agent.data_dir in mounts
    assert mounts["/etc/hf-agent"]["readOnly"] is True
    if config.store.url.startswith("file://"):
        assert config.store.url.removeprefix("file://") in mounts


def test_the_start_probe_lets_the_wal_be_recovered_and_no_store_decides_it(
    manifests: Manifests,
) -> None:
    probe = manifests.container["startupProbe"]
    # /readyz is 503 as long as a store refuses: the agent would be killed, and take no appends.
    assert probe["httpGet"] == {"path": "/healthz", "port": "http"}
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 300


def test_readiness_and_liveness_ask_what_they_are_for(manifests: Manifests, config: Config) -> None:
    container = manifests.container
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    liveness = container["livenessProbe"]
    assert liveness["httpGet"] == {"path": "/healthz", "port": "http"}
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60
    served = re.findall(
        r'add_get\("([^"]+)"', (ROOT / "agent" / "hf_agent" / "web" / "server.py").read_text()
    )
    assert {"/healthz", "/readyz"} <= set(served)
    (port,) = container["ports"]
    assert (port["name"], config.http.listen) == ("http", f":{port['containerPort']}")


def test_the_stop_has_more_time_than_the_last_flush_may_take(
    manifests: Manifests, config: Config
) -> None:
    grace = manifests.pod["terminationGracePeriodSeconds"]
    assert grace >= config.flush.shutdown_timeout + 15


def test_the_agent_is_started_with_options_that_exist(manifests: Manifests) -> None:
    arguments = manifests.container["args"]
    known = {option for each in cli.params for option in each.opts}
    assert {each for each in arguments if each.startswith("-")} <= known
    assert "command" not in manifests.container
    path = Path(arguments[arguments.index("--config") + 1])
    assert path.name in manifests.config_map()["data"]
    mounts = {each["mountPath"] for each in manifests.container["volumeMounts"]}
    assert str(path.parent) in mounts


def test_memory_is_limited_and_cpu_is_not(manifests: Manifests) -> None:
    for container in (manifests.container, manifests.init):
        resources = container["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}


def test_the_image_is_the_one_of_this_version(manifests: Manifests) -> None:
    for container in (manifests.container, manifests.init):
        assert container["image"] == f"hf-agent:{__version__}"


def test_the_network_is_open_for_metrics_from_where_they_are_collected_alone(
    manifests: Manifests,
) -> None:
    policy = manifests.one("NetworkPolicy")["spec"]
    labels = manifests.one("DaemonSet")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": "http", "protocol": "TCP"}]
    (source,) = rule["from"]
    assert source["namespaceSelector"]["matchLabels"]


def test_the_agent_reaches_its_store_and_its_credentials_and_nothing_else(
    manifests: Manifests, config: Config
) -> None:
    egress = manifests.one("NetworkPolicy")["spec"]["egress"]
    open_ports = {each["port"] for rule in egress for each in rule["ports"] if "to" not in rule}
    if config.store.url.startswith("file:"):
        assert egress == []
        return
    assert open_ports == {53, 443}
    (credentials,) = [rule for rule in egress if "to" in rule]
    addresses = {each["ipBlock"]["cidr"] for each in credentials["to"]}
    # EKS Pod Identity by both families, and the instance's metadata.
    assert addresses == {"169.254.170.23/32", "fd00:ec2::23/128", "169.254.169.254/32"}


def test_the_role_of_irsa_stands_on_the_service_account_of_the_pod(
    manifests: Manifests, config: Config
) -> None:
    account = manifests.one("ServiceAccount")
    assert account["metadata"]["name"] == manifests.pod["serviceAccountName"]
    assert account["automountServiceAccountToken"] is False
    annotations: dict[str, Any] = account["metadata"].get("annotations", {})
    on_s3 = config.store.url.startswith("s3://")
    assert ("eks.amazonaws.com/role-arn" in annotations) is on_s3


def test_a_directory_bucket_is_written_to_from_its_own_zone(
    manifests: Manifests, config: Config
) -> None:
    selector = manifests.pod["nodeSelector"]
    if "--x-s3" in config.store.url:
        assert f"--{selector['topology.k8s.aws/zone-id']}--x-s3" in config.store.url
    else:
        assert set(selector) == {"kubernetes.io/os"}
