"""`hf-agent flush`"""

from __future__ import annotations

import click

from hf_agent.cli.agents import connect, socket_option, timeout_option
from hf_agent.cli.command import Command
from hf_agent.cli.failures import CommandError
from hf_agent.service.exit_status import ExitStatus

__all__ = ["flush"]


@click.command(cls=Command)
@socket_option
@timeout_option("How long to wait for the store; for ever by default.", default=None)
@click.argument("stream", required=False)
def flush(socket: str, timeout: float | None, stream: str | None) -> None:
    """Have an agent flush STREAM (or every stream), and return when the store has it."""
    with connect(socket) as client:
        try:
            client.flush(stream, timeout)
        except TimeoutError as error:
            client.abort()
            raise CommandError(
                "the store does not have it yet; the agent goes on trying, see `hf-agent status` "
                f"seconds={timeout:g}",
                ExitStatus.STORE_UNAVAILABLE,
            ) from error
