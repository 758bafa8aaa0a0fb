"""Logging: structlog's events and the standard library's records, as one stream on standard error.

Results of commands go to standard output; nothing here writes there.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

__all__ = ["LEVELS", "remember", "set_level", "setup"]

LEVELS = ("debug", "info", "warning", "error")
"""Names of the levels, from the most to the least talkative."""

_LIBRARIES = ("aiobotocore", "aiohttp", "asyncio", "botocore", "urllib3")
"""They say at INFO what only their maintainers want to know."""


def setup(level: str, format: str, *, stream: TextIO | None = None) -> None:
    """Configure all logging of the process; may be called again.

    `level` is one of `LEVELS`; `format` is "console", "json", or "auto": console on a terminal,
    json elsewhere. `stream` is standard error by default.
    """
    stream = stream if stream is not None else sys.stderr
    console = format == "console" or (format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not console),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(console=console, colors=stream.isatty()),
            ],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Loggers are made when modules are loaded, and a second call here must reach them.
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)


def set_level(level: str) -> None:
    """Change the level of a process whose logging is set up."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(number)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def remember(processor: Processor) -> None:
    """Have `processor` see every event first, also those below the level of the log.

    It is forgotten by the next `setup`.
    """
    structlog.configure(processors=[processor, *structlog.get_config()["processors"]])


def _renderers(*, console: bool, colors: bool) -> list[Processor]:
    if console:
        return [structlog.dev.ConsoleRenderer(colors=colors)]
    return [
        structlog.processors.EventRenamer("message"),
        structlog.processors.format_exc_info,
        _what_matters_first,
        structlog.processors.JSONRenderer(default=str),
    ]


def _what_matters_first(logger: object, name: str, event: EventDict) -> EventDict:
    """People read JSON lines too."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "message") if key in event}
    return {**first, **event}
