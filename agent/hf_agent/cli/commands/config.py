"""`hf-agent config`"""

from __future__ import annotations

import click

from hf_agent.cli.command import Command, LazyGroup

__all__ = ["config"]


@click.group(
    cls=LazyGroup,
    lazy={
        "example": ("hf_agent.cli.commands.config:example", "Write one to begin with."),
        "schema": ("hf_agent.cli.commands.config:schema", "Write its JSON Schema, for editors."),
    },
)
def config() -> None:
    """Write configurations, and what is known of their keys."""


@click.command("schema", cls=Command)
def schema() -> None:
    """Write a JSON Schema (draft 2020-12) of the configuration to standard output.

    Editors with a TOML language server complete keys and mark mistakes by it. `hf-agent
    check-config` checks more: what values mean together.
    """
    import msgspec

    from hf_agent.cli.output import write_text
    from hf_agent.config.schema import schema as make

    write_text(msgspec.json.format(msgspec.json.encode(make())).decode())


@click.command("example", cls=Command)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice(["append", "lines", "forward", "syslog"]),
    default=("append",),
    show_default="append",
    help="A socket of this protocol; more than once for more sockets.",
)
@click.option(
    "--store",
    type=click.Choice(["directory", "s3"]),
    default="directory",
    show_default=True,
    help="Where containers go.",
)
def example(protocols: tuple[str, ...], store: str) -> None:
    """Write a configuration with every key, its default and its meaning to standard output."""
    from hf_agent.config.example import example as make

    click.echo(make(tuple(dict.fromkeys(protocols)), store), nl=False)
