"""Which stream the events of a tag go to: `stream = "{tag}"`, or made of some of its parts."""

from __future__ import annotations

import re
from typing import Final

from hf_agent.ingest.stream_name import is_stream_name

__all__ = ["WHOLE_TAG", "StreamTemplate"]

WHOLE_TAG: Final = "{tag}"

_PLACE: Final = re.compile(r"\{tag(?:\[(-?[0-9]{1,4})?(:)?(-?[0-9]{1,4})?\])?\}")


class StreamTemplate:
    """A template with `{tag}`, `{tag[1]}`, `{tag[-1]}`, `{tag[1:]}`, `{tag[:-1]}`, `{tag[0:2]}`.

    A tag's parts are what stands between its dots, counted as Python counts.
    """

    def __init__(self, text: str) -> None:
        """Raises `ValueError` with what is wrong."""
        self._parts: list[str | int | slice | None] = []
        at = 0
        for place in _PLACE.finditer(text):
            self._constant(text[at : place.start()])
            self._parts.append(_selection(place))
            at = place.end()
        self._constant(text[at:])

    def stream(self, tag: str) -> str | None:
        """The stream of `tag`; None when the tag lacks a part, or what results is no name."""
        parts = tag.split(".")
        try:
            name = "".join([_filled(part, tag, parts) for part in self._parts])
        except IndexError:
            return None
        return name if is_stream_name(name) else None

    def _constant(self, text: str) -> None:
        if "{" in text or "}" in text:
            raise ValueError(
                "not a template for a stream's name: between braces there is tag, tag[1], tag[-1] "
                "or tag[1:]"
            )
        if re.fullmatch(r"[A-Za-z0-9._/-]*", text) is None:
            raise ValueError("not a stream's name: use letters, digits and . _ - /")
        if text:
            self._parts.append(text)


def _selection(place: re.Match[str]) -> int | slice | None:
    first, colon, last = place.groups()
    if "[" not in place[0]:
        return None
    if colon:
        return slice(int(first) if first else None, int(last) if last else None)
    if first is None or last is not None:
        raise ValueError("not a part of the tag: write a number, as in {tag[1]}, or {tag[1:]}")
    return int(first)


def _filled(part: str | int | slice | None, tag: str, parts: list[str]) -> str:
    if part is None:
        return tag
    if isinstance(part, str):
        return part
    if isinstance(part, int):
        return parts[part]
    return ".".join(parts[part])
