"""Reads a configuration file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from hf_agent.config.build import build
from hf_agent.config.errors import ConfigError, Problems
from hf_agent.config.location import Locations
from hf_agent.config.model import Config
from hf_agent.config.rules import check
from hf_agent.store.url import absolute_url

__all__ = ["load", "parse"]

_MAX_BYTES = 1 << 20
"""No hand-written configuration comes near it; a wrong file (a log, a device) soon passes it."""

_BARE_TEXT = re.compile(r"=\s*[A-Za-z/.~$]")
"""The commonest fault of all: a path or a name as it stands on a command line."""


def load(path: str | os.PathLike[str], environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in the file `path`. Raises `ConfigError` with every problem found.

    `environment` is the process's own by default. Relative paths are relative to the current
    directory.
    """
    source = os.fspath(path)
    try:
        with Path(source).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError([f"{source}: cannot be read: {reason}"]) from error
    if len(data) > _MAX_BYTES:
        raise ConfigError([f"{source}: not a configuration: larger than {_MAX_BYTES} bytes"])
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError([f"{source}: not UTF-8 text: byte {error.start}"]) from error
    return parse(text, source=source, environment=environment)


def parse(
    text: str, *, source: str = "<config>", environment: Mapping[str, str] | None = None
) -> Config:
    """The configuration in `text`; `source` names it in errors. Raises `ConfigError`."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax(source, text, str(error))]) from error
    problems = Problems(source, Locations(text))
    config = build(raw, os.environ if environment is None else environment, problems)
    wal = raw.get("wal")
    if not isinstance(wal, dict) or "dir" not in wal:
        config = replace(config, wal=replace(config.wal, dir=f"{config.agent.data_dir}/wal"))
    check(config, problems)
    problems.raise_if_any()
    return replace(config, store=replace(config.store, url=absolute_url(config.store.url)))


def _syntax(source: str, text: str, what: str) -> str:
    """`tomllib` says "… (at line 3, column 7)": put the line in front, and show it."""
    message, _, place = what.partition(" (at ")
    lines = text.splitlines()
    number = len(lines)
    if place.startswith("line "):
        number = int(place.removeprefix("line ").split(",")[0])
    shown = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    advice = '; text stands in quotes: "..."' if _BARE_TEXT.search(shown) else ""
    return f"{source}:{number}: {shown}: not valid TOML: {message[:1].lower()}{message[1:]}{advice}"
