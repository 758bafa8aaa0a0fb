"""`hf-agent check-config`"""

from __future__ import annotations

from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.output import print_json, write_text
from hf_agent.cli.settings import Settings
from hf_agent.config import Config, load

__all__ = ["check_config"]


@click.command(cls=Command)
@click.option("--config", type=click.Path(), metavar="FILE", help="The configuration.")
@click.option(
    "--probe",
    is_flag=True,
    help="Also try the WAL's directory, the sockets and the store (with a scratch object).",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON array of what was tried.")
@click.pass_obj
def check_config(settings: Settings, config: str | None, probe: bool, as_json: bool) -> int:
    """Check a configuration, and say everything that is wrong with it."""
    path = config or settings.config
    if path is None:
        raise click.UsageError("missing option --config", click.get_current_context())
    loaded = load(path)
    findings = [_row(f"configuration {path}")]
    status = _probe(loaded, findings) if probe else 0
    if as_json:
        print_json(findings)
    else:
        for each in findings:
            note = f": {each['note']}" if each["note"] else ""
            write_text(f"{each['what']}: {'ok' if each['ok'] else 'failed'}{note}")
            if each["fault"]:
                click.echo(f"hf-agent: {each['what']}: {each['fault']}", err=True)
    return status


def _probe(config: Config, findings: list[dict[str, Any]]) -> int:
    """Add what was tried to `findings`; returns the status of the first fault."""
    # These load sockets, stores and the WAL: only for those who ask for them.
    from hf_agent.cli.probe import probe

    status = 0
    for found in probe(config):
        findings.append(_row(found.what, found.fault, found.note))
        status = status or int(found.status)
    return status


def _row(what: str, fault: str = "", note: str = "") -> dict[str, Any]:
    return {"what": what, "ok": not fault, "fault": fault, "note": note}
