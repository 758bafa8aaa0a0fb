"""What is the chart's own: values and their checks, the configuration that it makes, monitors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hf_agent import __version__
from support.manifests import CHART, MONITORING, OVERLAYS, Manifests, helm, lint, refusal
from support.readme import ROOT

URL = "config.store.url=s3://bucket/logs"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


def test_the_schema_of_the_values_is_made_of_the_agents_own() -> None:
    program = "import sys, values_schema; sys.stdout.write(values_schema.text())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=CHART.parent,
    )
    assert done.stdout == (CHART / "values.schema.json").read_text(), (
        "run python deploy/helm/values_schema.py"
    )


def test_the_recommended_values_and_the_examples_fit_the_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA)
    for name in OVERLAYS:
        jsonschema.validate(
            yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text()), SCHEMA
        )


@pytest.mark.parametrize("name", OVERLAYS)
def test_helm_has_nothing_to_warn_of(name: str) -> None:
    assert "0 chart(s) failed" in lint(CHART / "examples" / f"{name}.yaml")


def test_every_value_is_documented_and_every_key_of_the_schema_is_a_value() -> None:
    assert set(SCHEMA["properties"]) - {"global"} == set(VALUES)
    lines = (CHART / "values.yaml").read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if re.match(r"[a-z]\w*:", line)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        # What is written above it, or what is written within it of its members.
        words = lines[start - 1 : start] + [line.strip() for line in lines[start + 1 : end - 1]]
        assert any(line.startswith("# ") for line in words), lines[start]


BAD_VALUES: list[tuple[list[str], str]] = [
    (
        ["config.flush.intervall=5s"],
        "'/config/flush': additional properties 'intervall' not allowed",
    ),
    (["podMonitors.enabled=true"], "additional properties 'podMonitors' not allowed"),
    (["config.wal.when_full=panic"], "'/config/wal/when_full': value must be one of"),
    (["config.wal.max_bytes=lots"], "'/config/wal/max_bytes'"),
    (
        ["config.listen[0].path=/tmp/a.sock"],
        "'/config/listen/0/path': '/tmp/a.sock' does not match",
    ),
    (["config.store.url=gs://bucket"], "'/config/store/url': 'gs://bucket' does not match"),
    (["image.digest=latest"], "'/image/digest': 'latest' does not match"),
    (["port=80"], "'/port': minimum"),
    (["terminationGracePeriodSeconds=soon"], "'/terminationGracePeriodSeconds': got string"),
    (["maxUnavailable=0"], "'/maxUnavailable'"),
    (["hostPaths.data=wal"], "'/hostPaths/data': 'wal' does not match"),
    (["readinessProbe.path=/healthz"], "'/readinessProbe': additional properties 'path'"),
    (
        ["terminationGracePeriodSeconds=30"],
        "it has to be at least 15 above config.flush.shutdown_timeout (30s)",
    ),
    (
        ["config.flush.shutdown_timeout=1.5m"],
        "it has to be at least 15 above config.flush.shutdown_timeout (1.5m)",
    ),
    (["serviceMonitor.enabled=true"], "every agent would be scraped twice"),
    (["config.store.url="], "set config.store.url, as s3://my-bucket/logs or file:///srv/hf-agent"),
    (
        ["config.store.url=file:///srv/hf-agent"],
        "file:///srv/hf-agent: give storeVolume, or the logs are lost with the pod",
    ),
]


@pytest.mark.parametrize(("settings", "message"), BAD_VALUES, ids=lambda each: str(each)[:60])
def test_bad_values_are_refused_with_what_is_wrong(settings: list[str], message: str) -> None:
    assert message in refusal(*settings)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"config": {"flush": {"intervall": "5s"}}}, "config/flush"),
        ({"config": {"wal": {"when_full": "panic"}}}, "config/wal/when_full"),
        ({"config": {"http": {"listen": ""}}}, "config"),
        ({"config": {"agent": {"data_dir": "/tmp"}}}, "config/agent"),
        ({"terminationGracePeriodSeconds": 0}, "terminationGracePeriodSeconds"),
    ],
)
def test_the_schema_alone_says_where_a_bad_value_is(values: dict[str, Any], place: str) -> None:
    (fault,) = jsonschema.Draft7Validator(SCHEMA).iter_errors(values)
    assert "/".join(str(each) for each in fault.absolute_path) == place


def test_every_kind_of_value_reaches_the_agent_as_it_was_given(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        r"""
config:
  agent: {max_streams: 123456}
  listen:
    - path: /run/hf-agent/lines.sock
      protocol: lines
      stream: "{first_line}"
      allow_uids: [1000, "app"]
      allow_streams: ["app/*", "a<b>&\"c\\d"]
      max_connections: 7
      lines: {cri: true, start_pattern: '\d{4}-"', max_group_wait: 1.5}
    - path: /run/hf-agent/forward.sock
      protocol: forward
      forward: {users: [{name: me, password: "${PASSWORD}"}], shared_key: "${KEY}"}
  flush: {interval: 2.5, bytes: 1048576, concurrency: 8}
  store:
    url: s3://bucket/logs
    s3: {region: eu-west-1, sse: "aws:kms", sse_bucket_key: true}
  log: {level: warning}
env: [{name: PASSWORD, value: secret}, {name: KEY, value: 'k"ey'}]
"""
    )
    rendered = helm([values])
    text = rendered.config_map()["data"]["agent.toml"]
    # What is not allowed as a pattern of streams is for the agent to say; the text is what counts.
    assert r'allow_streams = ["app/*", "a\u003cb\u003e\u0026\"c\\d"]' in text
    values.write_text(values.read_text().replace(r', "a<b>&\"c\\d"', ""))
    config = helm([values]).config(tmp_path)
    assert config.agent.max_streams == 123456
    first, second = config.listen
    assert first.allow_uids == ("1000", "app")
    assert first.max_connections == 7
    assert (first.lines.cri, first.lines.start_pattern) == (True, r'\d{4}-"')
    assert first.lines.max_group_wait == 1.5
    (user,) = second.forward.users
    assert (user.name, user.password, second.forward.shared_key) == ("me", "secret", 'k"ey')
    assert (config.flush.interval, config.flush.bytes, config.flush.concurrency) == (
        2.5,
        1 << 20,
        8,
    )
    assert (config.store.s3.region, config.store.s3.sse) == ("eu-west-1", "aws:kms")
    assert config.store.s3.sse_bucket_key is True
    assert config.log.level == "warning"


def test_a_whole_file_may_be_given_instead(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    whole = (CHART.parents[1] / "kubernetes" / "overlays" / "s3" / "agent.toml").read_text()
    values.write_text(yaml.safe_dump({"rawConfig": whole}))
    assert helm([values]).config_map()["data"]["agent.toml"].strip() == whole.strip()


def checksum(manifests: Manifests) -> str:
    metadata = manifests.one("DaemonSet")["spec"]["template"]["metadata"]
    return str(metadata["annotations"]["checksum/config"])


def test_a_change_of_the_configuration_and_nothing_else_changes_the_pods_checksum() -> None:
    before = checksum(helm((), URL))
    assert re.fullmatch("[0-9a-f]{64}", before)
    assert checksum(helm((), URL, "prometheusRule.enabled=false")) == before
    assert checksum(helm((), URL, "config.flush.interval=11s")) != before


def test_monitors_and_alerts_are_left_out_where_the_cluster_does_not_know_them() -> None:
    kinds = {each["kind"] for each in helm((), URL).objects}
    assert kinds == {"ConfigMap", "DaemonSet", "NetworkPolicy", "ServiceAccount"}


def test_each_monitor_asks_for_its_own_kind() -> None:
    pod, service, rule = MONITORING
    by_service = ("podMonitor.enabled=false", "serviceMonitor.enabled=true")
    assert [
        len(helm((), URL, kinds=[pod]).all(kind)) for kind in ("PodMonitor", "PrometheusRule")
    ] == [
        1,
        0,
    ]
    assert len(helm((), URL, kinds=[rule]).all("PrometheusRule")) == 1
    assert helm((), URL, *by_service, kinds=[pod]).all("ServiceMonitor") == []
    assert len(helm((), URL, *by_service, kinds=[service]).all("ServiceMonitor")) == 1
    assert helm((), URL, "podMonitor.enabled=false", kinds=MONITORING).all("PodMonitor") == []


def test_monitors_find_the_agents_and_call_them_what_the_alerts_call_them() -> None:
    rendered = helm((), URL, kinds=MONITORING, release="other")
    labels = rendered.one("DaemonSet")["spec"]["template"]["metadata"]["labels"]
    monitor = rendered.one("PodMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    assert {"targetLabel": "job", "replacement": "hf-agent"} in endpoint["relabelings"]

    by_service = ("podMonitor.enabled=false", "serviceMonitor.enabled=true")
    rendered = helm((), URL, *by_service, kinds=MONITORING)
    labels = rendered.one("DaemonSet")["spec"]["template"]["metadata"]["labels"]
    service = rendered.one("Service")
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["publishNotReadyAddresses"] is True
    monitor = rendered.one("ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
    assert {"targetLabel": "job", "replacement": "hf-agent"} in endpoint["relabelings"]


def test_the_charts_alerts_are_those_of_the_repository() -> None:
    alerts = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text()
    assert (CHART / "files" / "alerts.yaml").read_text() == alerts, (
        "cp deploy/prometheus/alerts.yaml deploy/helm/hf-agent/files/"
    )
    rendered = helm((), URL, kinds=MONITORING).one("PrometheusRule")
    assert rendered["spec"] == yaml.safe_load(alerts)


def test_links_of_alerts_lead_to_where_the_runbook_is() -> None:
    where = "prometheusRule.runbookUrl=https://git.example.org/hf-agent/docs/"
    rules = helm((), URL, where, kinds=MONITORING).one("PrometheusRule")["spec"]["groups"]
    links = [rule["annotations"]["runbook_url"] for group in rules for rule in group["rules"]]
    assert links
    for link in links:
        assert link.startswith("https://git.example.org/hf-agent/docs/runbook.md#")


def test_a_digest_says_which_image_exactly() -> None:
    digest = "sha256:" + "0" * 64
    image = helm((), URL, f"image.digest={digest}", "image.repository=r.example.org/hf-agent")
    assert image.container["image"] == f"r.example.org/hf-agent:{__version__}@{digest}"


def test_chart_and_agent_have_the_same_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_two_releases_share_no_name_and_no_pod() -> None:
    first, second = (helm((), URL, release=name) for name in ("one", "two"))
    names = [{each["metadata"]["name"] for each in one.objects} for one in (first, second)]
    assert not names[0] & names[1]
    selectors = [one.one("DaemonSet")["spec"]["selector"] for one in (first, second)]
    assert selectors[0] != selectors[1]
