"""`hf-agent status`"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from hf_agent.cli.agents import connect, socket_option, timeout_option
from hf_agent.cli.command import Command
from hf_agent.cli.failures import CommandError
from hf_agent.cli.output import iso_time, print_fields, print_json

__all__ = ["status"]


@click.command(cls=Command)
@socket_option
@timeout_option("How long to wait for the answer.", default=10.0)
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
def status(socket: str, timeout: float, as_json: bool) -> None:
    """Show what a running agent does: state, WAL, store, streams."""
    with connect(socket) as client:
        try:
            values = client.status(timeout)
        except TimeoutError as error:
            client.abort()
            raise CommandError(
                f"the agent does not answer; look at its log socket={socket} seconds={timeout:g}"
            ) from error
    if as_json:
        print_json(values)
    else:
        print_fields(list(_flat(values)))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, object]]:
    """Names and values of everything inside, the names of tables in front."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name} {key}".strip().replace("_", " "))
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for each in value:
            yield name, " ".join(str(part) for part in each.values())
    elif name.endswith("timestamp"):
        yield name.removesuffix("timestamp") + "time", iso_time(value) if value else "-"
    elif isinstance(value, bool):
        yield name, "yes" if value else "no"
    else:
        yield name, "; ".join(map(str, value)) if isinstance(value, list) else value
