"""`hf-agent status`"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from hf_agent.cli.agents import timeout_option
from hf_agent.cli.command import Command
from hf_agent.cli.output import iso_time, print_fields, print_json
from hf_agent.cli.settings import Settings

if TYPE_CHECKING:
    from hf_agent.cli.status.look import Agent

__all__ = ["status"]

_PAUSE = 2.0
"""Seconds between two looks; as the status page."""


@click.command(cls=Command)
@click.option("--socket", type=click.Path(), metavar="PATH", help="A socket of protocol `append`.")
@click.option(
    "--http",
    metavar="ADDRESS",
    help="The agent's HTTP server: host:port, or a Unix socket. Without --socket: nothing else.",
)
@click.option(
    "--config",
    type=click.Path(),
    metavar="FILE",
    help="The agent's configuration, to take socket and HTTP server from.",
)
@click.option(
    "--watch",
    type=click.FloatRange(min=0.1, max=3600),
    is_flag=False,
    flag_value=_PAUSE,
    default=None,
    metavar="[SECONDS]",
    help=f"On a terminal: go on looking, every {_PAUSE:g} seconds by default, until Ctrl-C.",
)
@timeout_option("How long to wait for an answer.", default=10.0)
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
@click.pass_obj
def status(
    settings: Settings,
    socket: str | None,
    http: str | None,
    config: str | None,
    watch: float | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Show what a running agent does: state, WAL, store, streams.

    A terminal gets a table, a pipe one name and value a line. Streams, rates and the last errors
    come from the agent's HTTP server.
    """
    context = click.get_current_context()
    if as_json and watch is not None:
        raise click.UsageError("--json is one answer: leave out --watch", context)
    if not (socket or http):
        socket, http = _addresses(config or settings.config, context)
    # They load the client, and rich: not for `--help`.
    from hf_agent.cli.status.look import Agent

    try:
        agent = Agent(socket, http, timeout)
    except ValueError as error:
        raise click.BadParameter(str(error), context, param_hint="'--http'") from error
    if not as_json and sys.stdout.isatty():
        _show(agent, watch)
        return
    values = agent.sums()
    if as_json:
        print_json(values)
    else:
        print_fields(list(_flat(values)))


def _addresses(config: str | None, context: click.Context) -> tuple[str | None, str | None]:
    """Socket and HTTP server of the configured agent."""
    if config is None:
        raise click.UsageError("missing option --socket, --http or --config", context)
    from hf_agent.config import load

    loaded = load(config)
    sockets = [listen.path for listen in loaded.listen if listen.protocol == "append"]
    if not sockets and not loaded.http.listen:
        raise click.UsageError(
            f"this agent cannot be asked: it has no socket of protocol append, and no HTTP "
            f"config={config}",
            context,
        )
    return (sockets[0] if sockets else None), loaded.http.listen or None


def _show(agent: Agent, pause: float | None) -> None:
    from rich.console import Console

    from hf_agent.cli.status.view import draw
    from hf_agent.cli.status.watch import watch
    from hf_agent.clock import SystemClock

    clock, console = SystemClock(), Console()
    # A terminal that cannot move its cursor has one look, as a printer has.
    if pause is None or console.is_dumb_terminal:
        console.print(draw(agent.look(), clock.time()))
    else:
        watch(agent, pause, clock=clock, console=console)


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
