"""From an error to the line that people see and the exit status that scripts see."""

from __future__ import annotations

import re
from dataclasses import dataclass

import click

from hf_agent.service.exit_status import ExitStatus

__all__ = ["INTERRUPTED", "CommandError", "Failure", "explain"]

_STRAY_FILE = re.compile(r"unexpected extra argument \((\S+\.toml)\)")
"""The commonest stray argument: a configuration's file without its option."""

INTERRUPTED = int(ExitStatus.INTERRUPTED)


class CommandError(Exception):
    """What was asked for failed. The message says what, where and what to do."""

    def __init__(self, message: str, status: ExitStatus = ExitStatus.FAILED) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Failure:
    """Lines for standard error, and an exit status."""

    lines: tuple[str, ...]
    status: int


def explain(error: Exception) -> Failure:
    """What to say of `error`."""
    # Imported here: most runs of the command meet no error and need none of these.
    from hf_agent.client.errors import ClientError
    from hf_agent.config.errors import ConfigError
    from hf_agent.hyperfile.errors import HyperfileError
    from hf_agent.store.base import StoreError, StoreRefused, StoreRetry
    from hf_agent.wal.errors import WalError, WalLocked

    if isinstance(error, click.UsageError):
        return Failure((_usage(error),), ExitStatus.USAGE)
    if isinstance(error, click.ClickException):
        return Failure((_one_line(error.format_message()),), ExitStatus.FAILED)
    if isinstance(error, ConfigError):
        return Failure(error.messages, ExitStatus.CONFIGURATION)
    if isinstance(error, CommandError):
        return Failure((_one_line(str(error)),), error.status)
    if isinstance(error, StoreRetry | StoreRefused):
        return Failure((_one_line(str(error)),), ExitStatus.STORE_UNAVAILABLE)
    if isinstance(error, WalLocked):
        return Failure((_one_line(str(error)),), ExitStatus.WAL_LOCKED)
    if isinstance(error, StoreError | HyperfileError | WalError | ClientError):
        return Failure((_one_line(str(error)),), ExitStatus.FAILED)
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return Failure((f"{error.strerror.lower()}{place}",), ExitStatus.FAILED)
    what = _one_line(f"unexpected error: {type(error).__name__}: {error}")
    return Failure((f"{what} (--debug shows where)",), ExitStatus.FAILED)


def _usage(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "hf-agent"
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and isinstance(
        error.ctx.command, click.Group
    ):
        message = f"missing command: {', '.join(error.ctx.command.list_commands(error.ctx))}"
    else:
        message = _one_line(error.format_message()).rstrip(".")
    if match := _STRAY_FILE.search(message):
        message += f"; give a configuration with --config {match[1]}"
    return f"{message[:1].lower()}{message[1:]}; see {path} --help"


def _one_line(text: str) -> str:
    return " ".join(text.split())
