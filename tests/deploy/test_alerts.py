"""The alerts: they are valid, name what the agent exports, fire and clear, and have a runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_agent.config.model import Config
from support.agent_process import AgentProcess
from support.prometheus import program
from support.promql import Exported, exported, selectors, unknown_in
from support.readme import ROOT, block

FOLDER = ROOT / "deploy" / "prometheus"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "agent" / "hf_agent").rglob("*.py")))


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


RULES = {rule["alert"]: rule for rule in rules()}


def promtool(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=FOLDER,
        timeout=120,
    )


def sections() -> dict[str, str]:
    """The text of each `##` section of the runbook, by its title."""
    parts = re.split(r"^## (.+)$", RUNBOOK, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


# -- Prometheus' own tools --------------------------------------------------------------------


def test_rules_and_scrape_configuration_are_valid() -> None:
    for arguments in (("check", "rules", "alerts.yaml"), ("check", "config", "prometheus.yaml")):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_and_clears_when_it_should() -> None:
    done = promtool("test", "rules", "alerts_test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a running agent exports."""
    agent = AgentProcess(tmp_path_factory.mktemp("agent")).start()
    try:
        status, text = agent.get("/metrics")
    finally:
        agent.stop()
    assert status == 200
    return text


def test_a_running_agents_metrics_follow_the_naming_rules(metrics: str) -> None:
    done = promtool("check", "metrics", stdin=metrics)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_alerts_compare_with_is_set_in_a_running_agent(metrics: str) -> None:
    values = dict(re.findall(r"^(\w+) ([0-9.e+]+)$", metrics, flags=re.M))
    assert values["hf_agent_ready"] == "1.0"
    assert values["hf_agent_flush_interval_seconds"] == "0.2"
    assert float(values["hf_agent_wal_disk_free_bytes"]) > 0
    assert float(values["hf_agent_wal_disk_free_bytes"]) < float(
        values["hf_agent_wal_disk_size_bytes"]
    )
    for name in ("process_start_time_seconds", "process_open_fds", "process_max_fds"):
        assert float(values[name]) > 0


def test_promtool_does_find_a_name_against_the_rules() -> None:
    done = promtool("check", "metrics", stdin="# TYPE hf_agent_x_total gauge\nhf_agent_x_total 1\n")
    assert done.returncode != 0


# -- rules, tests and runbook in step ---------------------------------------------------------


def test_there_is_an_alert_for_each_way_in_which_an_agent_needs_somebody() -> None:
    assert set(RULES) >= {
        "HfAgentRecordsRefused",
        "HfAgentFlushFailing",
        "HfAgentUnflushedTooOld",
        "HfAgentWalAbove80Percent",
        "HfAgentWalDiskFilling",
        "HfAgentConflict",
        "HfAgentCorruption",
        "HfAgentDown",
        "HfAgentRestartLoop",
    }
    assert "predict_linear(" in RULES["HfAgentWalDiskFilling"]["expr"]


def test_each_alert_has_cases_in_which_it_fires_and_cases_in_which_it_does_not() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fires == quiet == set(RULES)


def test_expressions_name_what_the_agent_exports() -> None:
    known = exported()
    wrong = {name: unknown_in(rule["expr"], known) for name, rule in RULES.items()}
    assert {name: names for name, names in wrong.items() if names} == {}
    others = {name for name, rule in RULES.items() if not selectors(rule["expr"])}
    assert others == {"HfAgentDown", "HfAgentAbsent"}


@pytest.mark.parametrize("expression", ["hf_agent_sizes", 'hf_agent_flushes_total{result="no"}'])
def test_a_name_that_nothing_exports_is_found(expression: str) -> None:
    assert unknown_in(expression, exported()) == [expression]


@pytest.mark.parametrize("name", RULES)
def test_each_alert_says_how_bad_it_is_and_where_to_read_on(name: str) -> None:
    rule = RULES[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_the_command_of_the_page_makes_whole_addresses_of_all_links(tmp_path: Path) -> None:
    made = tmp_path / "hf-agent-alerts.yaml"
    command = block("docs/monitoring.md", "runbook-links", "sh")
    assert "/etc/prometheus/hf-agent-alerts.yaml" in command
    command = command.replace("/etc/prometheus/hf-agent-alerts.yaml", str(made))
    subprocess.run(["bash", "-euc", command], cwd=ROOT, check=True, timeout=60)
    documents = [yaml.safe_load(path.read_text()) for path in (made, FOLDER / "alerts.yaml")]
    for rule in (each for group in documents[0]["groups"] for each in group["rules"]):
        name, annotations = rule["alert"], rule["annotations"]
        page = "https://git.example.org/hf-agent/blob/main/docs/runbook.md"
        assert annotations["runbook_url"] == f"{page}#{name.lower()}"
        annotations["runbook_url"] = f"docs/runbook.md#{name.lower()}"
    assert documents[0] == documents[1], "nothing else was changed"


def test_the_runbook_has_one_section_for_each_alert_in_their_order() -> None:
    assert list(sections()) == list(RULES)


@pytest.mark.parametrize("name", RULES)
def test_a_section_says_what_it_means_where_to_look_and_when_it_is_over(name: str) -> None:
    text = sections()[name]
    assert text.startswith(f"\n\n**{RULES[name]['labels']['severity']}.** ")
    assert "*Look" in text
    assert re.search(r"[Cc]auses?\b", text)
    assert re.search(r"\*(What to d|Causes and what to d|D)o\*|\| do \||what to do\*", text)
    assert "*Over* " in text


# -- what the runbook names exists ------------------------------------------------------------


def test_metrics_of_the_runbook_are_exported() -> None:
    histograms = {
        name.removesuffix("_bucket"): labels for name, labels in exported().samples.items()
    }
    known = Exported({**exported().samples, **histograms})
    assert [name for name in unknown_in(RUNBOOK, known) if name != "hf_agent_"] == []


def test_links_within_the_runbook_lead_to_sections() -> None:
    titles = re.findall(r"^##+ (.+)$", RUNBOOK, flags=re.M)
    anchors = {title.lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= anchors


def test_reasons_that_the_runbook_explains_are_those_that_are_counted() -> None:
    for alert, metric in (
        ("HfAgentRecordsRefused", "hf_agent_rejected_records_total"),
        ("HfAgentConnectionsRefused", "hf_agent_refused_connections_total"),
    ):
        counted = exported().samples[metric]["reason"] - {"shutting_down"}
        assert {each for each in counted if f"`{each}`" not in sections()[alert]} == set()


def keys_of(struct: Any, prefix: str = "") -> set[str]:
    found = set()
    for name, kind in struct.__annotations__.items():
        found.add(f"{prefix}{name}")
        match = re.search(r"\b(Agent|Listen|Wal|Flush|Store|Http|Log)\b", str(kind))
        if match and not prefix:
            inner = getattr(__import__("hf_agent.config.model", fromlist=["x"]), match[1])
            found |= keys_of(inner, f"{name}[]." if name == "listen" else f"{name}.")
    return found


def test_configuration_keys_of_the_runbook_exist() -> None:
    named = set(
        re.findall(
            r"`((?:agent|listen\[\]|wal|flush|store|http|log)\.[a-z_0-9]+)(?: = [^`]*)?`", RUNBOOK
        )
    )
    assert len(named) > 10
    assert named - keys_of(Config) == set()


def test_log_lines_of_the_runbook_are_written_by_the_agent() -> None:
    # A message may be written over several lines of source.
    written = re.sub(r'"\s*\n\s*f?"', "", SOURCE)
    lines = re.findall(
        r"in the log (?:then says )?`([^`]+)`|`((?:WAL|flush|cannot) [^`]+)`", RUNBOOK
    )
    named = {first or second for first, second in lines}
    assert len(named) > 5
    assert {line for line in named if line not in written} == set()
