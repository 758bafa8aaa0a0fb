"""docs/monitoring.md names the paths, parameters, limits and metrics that there are."""

from __future__ import annotations

import re
import runpy

from hf_agent.recent import LAST_EVENTS, LAST_FLUSHES
from hf_agent.service.history import POINTS, STEP
from hf_agent.service.overview import MOST_PEERS
from hf_agent.web.limits import Limits
from hf_agent.web.queries import MAX_STREAMS, StreamQuery, parse_stream_query
from support.readme import ROOT

PATH = ROOT / "docs" / "monitoring.md"
PAGE = PATH.read_text()


def test_the_table_of_metrics_is_made_from_the_code() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "metrics_table.py"))["page"](PAGE)
    assert made == PAGE, "run python docs/metrics_table.py"
    assert PAGE.count("| `hf_agent_") > 40


def test_its_paths_are_those_that_are_served() -> None:
    server = (ROOT / "agent" / "hf_agent" / "web" / "server.py").read_text()
    served = re.findall(r'add_get\("([^"]+)"', server)
    assert set(re.findall(r"^\| `(/[a-z/]*)` \|", PAGE, flags=re.M)) == set(served)


def test_its_parameters_are_those_that_are_read() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \| (.*?) \|", PAGE, flags=re.M)
    assert {name for name, _ in rows} == set(StreamQuery._fields) - {"descending"}
    query = parse_stream_query({})
    assert dict(rows)["limit"] == f"`{query.limit}`"
    assert dict(rows)["offset"] == f"`{query.offset}`"
    assert f"1 to {MAX_STREAMS}" in PAGE


def test_its_limits_are_those_of_the_code() -> None:
    assert f"last {LAST_FLUSHES} flushes" in PAGE
    assert f"last {LAST_EVENTS} warnings" in PAGE
    assert f"the {MOST_PEERS} peers" in PAGE
    assert f"history is {POINTS} points" in PAGE
    assert POINTS * STEP == 600, "the page says ten minutes"
    assert f"{Limits().connections} connections" in PAGE
    assert Limits().first_request_seconds == 10
