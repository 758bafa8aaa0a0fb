"""The click classes of this command line: options that all commands share, and lazy loading."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from hf_agent.cli.settings import Settings

__all__ = ["Command", "LazyGroup", "common_options"]

_COMMON = ("log_level", "log_format", "debug")
_LEVELS = ("debug", "info", "warning", "error")


def common_options() -> list[click.Parameter]:
    """`--log-level`, `--log-format` and `--debug`."""
    return [
        click.Option(
            ["--log-level"], type=click.Choice(_LEVELS), help="How much to log to standard error."
        ),
        click.Option(
            ["--log-format"],
            type=click.Choice(["auto", "console", "json"]),
            help="auto is console on a terminal, json elsewhere.",
        ),
        click.Option(["--debug"], is_flag=True, help="Show tracebacks."),
    ]


class Command(click.Command):
    """A command with the common options; its callback does not see them."""

    def __init__(
        self, name: str | None, *, params: list[click.Parameter] | None = None, **kw: Any
    ) -> None:
        super().__init__(name, params=[*(params or []), *common_options()], **kw)

    def invoke(self, ctx: click.Context) -> Any:
        settings = ctx.find_object(Settings)
        assert settings is not None
        settings.update({name: ctx.params.pop(name) for name in _COMMON})
        if settings.log_level or settings.log_format:
            from hf_agent.logs import setup

            setup(settings.log_level or "warning", settings.log_format or "auto")
        return super().invoke(ctx)


class LazyGroup(click.Group):
    """A group whose commands are loaded when they are asked for.

    `lazy` holds names, each with "package.module:attribute" and a line of help. So neither
    `--help` nor one command loads what the other commands need.
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kw: Any
    ) -> None:
        super().__init__(*args, **kw)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.lazy and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"no such command {name!r}{self._advice(name)}")
        return super().resolve_command(ctx, args)

    def _advice(self, name: str) -> str:
        if name.endswith(".toml"):
            return f"; to run the agent with it: hf-agent --config {name}"
        near = difflib.get_close_matches(name, self.lazy, n=1)
        return f"; did you mean {near[0]!r}?" if near else ""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """As click does it, but without loading the commands for their line of help."""
        options = click.Command.shell_complete(self, ctx, incomplete)
        commands = (
            CompletionItem(name, help=text)
            for name, (_, text) in self.lazy.items()
            if name.startswith(incomplete)
        )
        return [*commands, *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])
