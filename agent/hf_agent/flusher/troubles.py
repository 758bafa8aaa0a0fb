"""What keeps streams from being flushed: told when a cause appears and when it is over.

A store that is away fails one stream after the other, and each many times. So an error of the
store is one cause for all streams, known by its class and code; any other error is its stream's
own. A cause is logged once, with the first stream that met it, and not again before the last
stream that has it has been flushed, or has met another cause.
"""

from __future__ import annotations

import heapq
import logging
import re
from typing import Any, NamedTuple

import structlog

from hf_agent.metrics import Metrics
from hf_agent.store.base import StoreRefused, StoreRetry

__all__ = ["Troubles", "message_of"]

_log = structlog.get_logger(__name__)
_PAIRS = re.compile(r"\s+[a-z_]+=.*", re.DOTALL)
_NEEDS_SOMEBODY = ("refused", "corrupt")
"""Results that do not pass by themselves."""


def message_of(error: BaseException) -> str:
    """What an error says, without the `key=value` pairs at its end, which differ at every try."""
    return _PAIRS.sub("", str(error)) or type(error).__name__


class _Cause(NamedTuple):
    result: str
    code: str
    stream: str
    """Empty when it is the store's, and so that of any number of streams."""


class Troubles:
    """The streams whose last flush failed, and why."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._causes: dict[str, _Cause] = {}
        self._streams: dict[_Cause, int] = {}
        self.refused: dict[str, str] = {}
        """Streams that will not be flushed before somebody does something, and why."""

    def failed(self, stream: str, result: str, error: BaseException) -> None:
        """A flush has failed; `result` is its label in `flushes_total`."""
        if result in _NEEDS_SOMEBODY:
            self.refused[stream] = str(error)
        else:
            self.refused.pop(stream, None)
        if isinstance(error, StoreRetry | StoreRefused):
            cause = _Cause(result, error.code or message_of(error), "")
        else:
            cause = _Cause(result, message_of(error), stream)
        if self._causes.get(stream) == cause:
            return
        self._forget(stream)
        self._causes[stream] = cause
        self._count(cause, 1)
        if self._streams[cause] > 1:
            return
        _log.log(
            logging.ERROR if result in _NEEDS_SOMEBODY else logging.WARNING,
            "flush failed, will be tried again; the data stays in the WAL",
            stream=stream,
            result=result,
            reason=str(error) or type(error).__name__,
        )

    def succeeded(self, stream: str, key: str) -> None:
        """The stream has been flushed to the container at `key`."""
        self.refused.pop(stream, None)
        cause = self._forget(stream)
        if cause is not None and cause not in self._streams:
            _log.info(
                "flushing again", stream=stream, container=key, was=cause.result, code=cause.code
            )

    def causes(self, most: int) -> list[dict[str, Any]]:
        """The causes there are now, those of the most streams first, at most `most` of them.

        As plain JSON types: `result`, `code` (or message), `stream` (empty when it is the store's)
        and `streams`, how many it concerns.
        """
        found = heapq.nlargest(most, self._streams.items(), key=lambda item: item[1])
        return [{**cause._asdict(), "streams": count} for cause, count in found]

    def _forget(self, stream: str) -> _Cause | None:
        cause = self._causes.pop(stream, None)
        if cause is not None:
            self._count(cause, -1)
        return cause

    def _count(self, cause: _Cause, change: int) -> None:
        count = self._streams.get(cause, 0) + change
        if count:
            self._streams[cause] = count
        else:
            del self._streams[cause]
        self._metrics.failing_streams.labels(cause.result).inc(change)
