"""The command `hf-agent`: its group, and the way from an error to an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from hf_agent import __version__
from hf_agent.cli.command import LazyGroup, common_options
from hf_agent.cli.completion import answer_shell
from hf_agent.cli.failures import INTERRUPTED, explain
from hf_agent.cli.settings import Settings

__all__ = ["cli", "main"]

_COMMANDS = "hf_agent.cli.commands"
_BROKEN_PIPE = 141
"""What a shell shows for a process that SIGPIPE ended: other filters end so too."""


@click.group(
    cls=LazyGroup,
    lazy={
        "run": (f"{_COMMANDS}.run:run", "Run the agent."),
        "check-config": (f"{_COMMANDS}.check_config:check_config", "Check a configuration."),
        "config": (f"{_COMMANDS}.config:config", "Write an example configuration, or its schema."),
        "append": (f"{_COMMANDS}.append:append", "Send a file or standard input to an agent."),
        "ls": (f"{_COMMANDS}.ls:ls", "List the containers below a URL."),
        "stat": (f"{_COMMANDS}.stat:stat", "Show one container."),
        "log": (f"{_COMMANDS}.log:log", "List a container's checkpoints, newest first."),
        "cat": (f"{_COMMANDS}.cat:cat", "Write a container's content to standard output."),
        "tail": (f"{_COMMANDS}.tail:tail", "Write the last lines of a container."),
        "diff": (f"{_COMMANDS}.diff:diff", "List what differs between two checkpoints."),
        "cp": (f"{_COMMANDS}.cp:cp", "Copy a container, also to another store."),
        "write": (f"{_COMMANDS}.write:write", "Write a file or standard input into a container."),
        "truncate": (f"{_COMMANDS}.truncate:truncate", "Set a container's length."),
        "zero": (f"{_COMMANDS}.zero:zero", "Make a range of a container zeros."),
        "rollback": (f"{_COMMANDS}.rollback:rollback", "Bring a checkpoint's content back."),
        "rm": (f"{_COMMANDS}.rm:rm", "Remove containers."),
        "verify": (f"{_COMMANDS}.verify:verify", "Check a container for damage."),
        "wal": (f"{_COMMANDS}.wal:wal", "Look into a write-ahead log."),
        "flush": (f"{_COMMANDS}.flush:flush", "Have an agent flush to the store, and wait."),
        "status": (f"{_COMMANDS}.status:status", "Show what a running agent does."),
        "completion": (f"{_COMMANDS}.completion:completion", "Have a shell complete commands."),
    },
    params=[
        click.Option(
            ["--config"],
            type=click.Path(),
            metavar="FILE",
            help="Run the agent with this configuration.",
        ),
        *common_options(),
    ],
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="hf-agent", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, /, **common: object) -> int:
    """Durable log shipping: Unix sockets to a local write-ahead log to Hyperfile containers.

    `hf-agent --config agent.toml` runs the agent. Results go to standard output, logs and errors
    to standard error.
    """
    settings = ctx.ensure_object(Settings)
    settings.update(common)
    if ctx.invoked_subcommand is not None:
        return 0
    if settings.config is None:
        raise click.UsageError("no command, and no --config to run the agent with", ctx)
    from hf_agent.cli.commands.run import start

    return start(settings, settings.config)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    settings = Settings()
    try:
        if (answered := answer_shell(cli, os.environ)) is not None:
            return answered
        # Not `cli.main`: that takes a broken pipe, and exits, for itself.
        given = list(sys.argv[1:] if args is None else args)
        with cli.make_context("hf-agent", given, obj=settings) as ctx:
            status = cli.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:
        # The interpreter flushes standard output once more when it ends; let that succeed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:
        if settings.debug:
            raise
        failure = explain(error)
        for line in failure.lines:
            click.echo(f"hf-agent: {line}", err=True)
        return failure.status
    return int(status) if isinstance(status, int) else 0
