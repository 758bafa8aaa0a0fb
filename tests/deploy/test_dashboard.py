"""The Grafana dashboard, checked as far as that goes without a Grafana."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.prometheus import program
from support.promql import exported, selectors, unknown_in
from support.readme import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def expressions() -> list[str]:
    found = [target["expr"] for panel in PANELS for target in panel["targets"]]
    return found + [each["expr"] for each in DASHBOARD["annotations"]["list"]]


def titled(panel: dict[str, Any]) -> str:
    return str(panel["title"])


def test_expressions_name_what_the_agent_exports() -> None:
    known = exported()
    queries = [
        each["definition"] for each in DASHBOARD["templating"]["list"] if "definition" in each
    ]
    wrong = {each: unknown_in(each, known) for each in (*expressions(), *queries)}
    assert {expression: names for expression, names in wrong.items() if names} == {}


def test_every_metric_of_the_agent_is_looked_at_somewhere() -> None:
    def family(name: str) -> str:
        return re.sub(r"_(bucket|sum|count)$", "", name)

    shown = {family(each.name) for expression in expressions() for each in selectors(expression)}
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text()
    shown |= {family(each.name) for each in selectors(rules)}
    of_the_agent = {family(name) for name in exported().samples if name.startswith("hf_agent_")}
    assert of_the_agent - shown == set()


def test_every_expression_is_of_the_agents_that_are_chosen() -> None:
    for expression in expressions():
        for name, labels in re.findall(r"\b(up|(?:hf_agent|process)_\w+)(\{[^}]*\})?", expression):
            assert 'job=~"$job", instance=~"$instance"' in labels, f"{name} in {expression}"


def test_expressions_parse(tmp_path: Path) -> None:
    """As rules, with Grafana's variables put in: promtool has no other door to its parser."""
    rules = [
        {
            "record": f"panel:{index}",
            "expr": expression.replace("$__rate_interval", "5m"),
        }
        for index, expression in enumerate(expressions())
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [program("promtool"), "check", "rules", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_a_panel_says_what_it_shows_in_which_unit_and_from_where(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == SOURCE
    assert [target["refId"] for target in panel["targets"]] == list(
        "ABCDE"[: len(panel["targets"])]
    )
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        assert panel["type"] == "table" or target["legendFormat"]


UNITS = {
    r"_bytes\b(?!_total)": {"bytes", "percentunit"},
    r"_seconds_bucket": {"s"},
    r"rate\(hf_agent_\w+_bytes_total": {"Bps"},
    r"rate\(hf_agent_\w+_records_total": {"cps"},
}


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_the_unit_is_that_of_what_is_shown(panel: dict[str, Any]) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        for pattern, units in UNITS.items():
            if re.search(pattern, target["expr"]):
                assert unit in units
        if re.search(r"^[^(]*hf_agent_\w+\{[^}]*\} / ", target["expr"]):
            assert unit == "percentunit"


def test_ids_differ_and_no_panel_lies_on_another() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24
    for one, other in itertools.combinations(panels, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one['title']} and {other['title']}"


def test_it_has_the_rows_and_the_choices_that_people_look_for() -> None:
    rows = [each["title"] for each in DASHBOARD["panels"] if each["type"] == "row"]
    assert rows == ["Health", "Ingest", "WAL", "Flush and store", "By protocol", "Process"]
    choices = {each["name"]: each["type"] for each in DASHBOARD["templating"]["list"]}
    assert choices == {"datasource": "datasource", "job": "query", "instance": "query"}


def test_alerts_that_it_names_exist() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text()
    known = set(re.findall(r"alert: (\w+)", rules))
    named = {name for panel in PANELS for name in re.findall(r"HfAgent\w+", panel["description"])}
    assert named <= known
    assert known - named <= {"HfAgentAbsent"}
