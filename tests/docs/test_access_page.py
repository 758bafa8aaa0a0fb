"""What the page of access rules shows is a configuration, and names metrics that there are."""

from __future__ import annotations

import re

from hf_agent.config import parse
from hf_agent.metrics import Metrics
from support.readme import ROOT, block

PAGE = "docs/access.md"


def test_the_configuration_is_right() -> None:
    text = block(PAGE, "access-config", "toml") + '\n[store]\nurl = "file:///srv/logs"\n'
    (listen,) = parse(text, environment={}).listen
    assert listen.allow_uids == ("app", "1005")
    assert listen.allow_gids == ("adm",)
    assert listen.allow_streams == ("app/*", "audit")
    assert (listen.max_connections, listen.max_connections_per_uid) == (256, 32)
    assert listen.idle_timeout == 600
    assert (listen.connection_bytes_per_second, listen.stream_bytes_per_second) == (
        4 << 20,
        1 << 20,
    )


def test_the_metrics_of_the_table_are_there() -> None:
    table = (ROOT / PAGE).read_text().split("## What the operator sees")[1].split("\n\n")[1]
    named = re.findall(r"`([a-z_]+)\{", table)
    families = {family.name for family in Metrics().registry.collect()}
    assert len(named) >= 7
    assert {f"hf_agent_{name.removesuffix('_total')}" for name in named} <= families
