"""The structured data of an RFC 5424 message: elements with an id and named values."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

__all__ = ["STRUCTURED_DATA", "Element", "parse_structured_data"]

Element: TypeAlias = tuple[bytes, list[tuple[bytes, bytes]]]
"""An element's id, and its names and values in their order."""

_NAME: Final = rb"[!#-<>-\\^-~]{1,128}"
"""Printable, and none of `=`, `]`, `"` and space. RFC 5424 has 32 at most; programs have more."""
_VALUE: Final = rb'[^"\\\]]*(?:\\.[^"\\\]]*)*'
STRUCTURED_DATA: Final = rb"(?:\[" + _NAME + rb"(?: " + _NAME + rb'="' + _VALUE + rb'")*\])+'
"""As part of a pattern (with DOTALL): one element or more."""

_ELEMENT: Final = re.compile(
    rb"\[(" + _NAME + rb")((?: " + _NAME + rb'="' + _VALUE + rb'")*)\]', re.DOTALL
)
_PARAMETER: Final = re.compile(rb" (" + _NAME + rb')="(' + _VALUE + rb')"', re.DOTALL)
_ESCAPED: Final = re.compile(rb'\\(["\\\]])')


def parse_structured_data(text: bytes) -> list[Element] | None:
    """The elements of what `STRUCTURED_DATA` matches; None when an id comes twice.

    A backslash counts only in front of `"`, `\\` and `]`; elsewhere it stands for itself.
    """
    elements: list[Element] = []
    ids: set[bytes] = set()
    for found in _ELEMENT.finditer(text):
        name, parameters = found.groups()
        if name in ids:
            return None
        ids.add(name)
        elements.append(
            (
                name,
                [
                    (key, _ESCAPED.sub(rb"\1", value) if b"\\" in value else value)
                    for key, value in _PARAMETER.findall(parameters)
                ],
            )
        )
    return elements
