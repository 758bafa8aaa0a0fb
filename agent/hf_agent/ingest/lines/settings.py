"""What a socket of protocol `lines` is told in `[listen.lines]`, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from hf_agent.ingest.lines.assembly import Assembly, CriLines, JoinedLines, WrappedLines
from hf_agent.ingest.lines.cri import Cri
from hf_agent.ingest.lines.cri_multiline import CriMultiline
from hf_agent.ingest.lines.formats import JsonFormat, JsonKeys, Peer, RawFormat
from hf_agent.ingest.lines.multiline import Multiline
from hf_agent.ingest.lines.open_groups import Limits
from hf_agent.ingest.lines.start_pattern import StartPattern

__all__ = ["LinesConfig", "LinesSettings"]

_BESIDE_MESSAGE: Final = 2048
"""What a line of JSON has beside its message: five keys of 200 characters, a time, two numbers."""
_WORST_IN_JSON: Final = 6
"""Bytes that one byte of a message takes in JSON at most (`\\u0001`)."""


class LinesConfig(JsonKeys, Protocol):
    """`[listen.lines]`."""

    @property
    def format(self) -> str: ...
    @property
    def cri(self) -> bool: ...
    @property
    def start_pattern(self) -> str:
        """Empty: lines are not joined."""
        ...

    @property
    def max_group_lines(self) -> int: ...
    @property
    def max_group_bytes(self) -> int: ...
    @property
    def max_group_wait(self) -> float: ...
    @property
    def say_ok(self) -> bool:
        """Whether a client is told `ok` before the end of file."""
        ...


class LinesSettings:
    """What the connections of one socket share."""

    def __init__(
        self,
        config: LinesConfig,
        *,
        max_record_bytes: int,
        joined: Callable[[str, str], None],
        malformed: Callable[[], None],
    ) -> None:
        """`joined` is told of each record that a stage made: the stage, and what ended the record.

        Raises `ValueError` for a bad pattern.
        """
        self._config = config
        self._max_append = max_record_bytes
        self._joined = joined
        self._malformed = malformed
        self._pattern = StartPattern(config.start_pattern) if config.start_pattern else None
        fitting = max_record_bytes
        if config.format == "json":
            # So that no group becomes larger than a record may be.
            fitting = max(1, (max_record_bytes - _BESIDE_MESSAGE) // _WORST_IN_JSON)
        self._limits = Limits(
            config.max_group_lines, min(config.max_group_bytes, fitting), config.max_group_wait
        )

    @property
    def is_plain(self) -> bool:
        """Whether lines are stored as they come, each by itself: there is nothing to assemble."""
        return self._pattern is None and not self._config.cri and self._config.format == "raw"

    def assembly(self, peer: Peer) -> Assembly:
        """For one connection."""
        config, limits, pattern = self._config, self._limits, self._pattern
        format: RawFormat | JsonFormat
        if config.format == "json":
            format = JsonFormat(config, peer, self._max_append)
            if pattern is None and not config.cri:
                return WrappedLines(format)
        else:
            format = RawFormat(self._max_append)
        if config.cri:
            multiline = None
            if pattern is not None:
                multiline = CriMultiline(pattern, limits, self._ended("multiline"))
            cri = Cri(limits, self._ended("cri"), self._malformed)
            return CriLines(cri, multiline, format)
        assert pattern is not None
        return JoinedLines(Multiline(pattern, limits, self._ended("multiline")), format)

    def _ended(self, stage: str) -> Callable[[str], None]:
        joined = self._joined
        return lambda why: joined(stage, why)
