"""Running agents as commands reach them: over a socket of protocol `append`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hf_agent.client import Client, ClientOptions

__all__ = ["connect", "socket_option", "timeout_option"]

socket_option = click.option(
    "--socket",
    required=True,
    type=click.Path(),
    metavar="PATH",
    help="A socket of protocol `append`.",
)


def timeout_option(text: str, *, default: float | None) -> Callable[..., Any]:
    """`--timeout SECONDS`, with what is waited for as its help."""
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0.01),
        default=default,
        show_default=default is not None,
        metavar="SECONDS",
        help=text,
    )


def connect(
    socket: str, *, producer: str | None = None, options: ClientOptions | None = None
) -> Client:
    """A client of the agent at `socket`. Raises `ClientError` when there is none."""
    return Client(socket, producer, options=options)
