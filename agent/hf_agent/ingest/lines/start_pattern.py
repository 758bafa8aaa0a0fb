"""The regular expression that tells where a group of lines begins.

It is RE2's: what it takes is linear in the length of the text, whatever the expression and the text
are, so no line can be made to hold up the agent. All lines of a piece are searched in one call;
what the expression matches ends with the line (`never_nl`), so the outcome does not depend on how
lines came together.
"""

from __future__ import annotations

import re
from typing import Final

import re2

__all__ = ["MAX_PATTERN_BYTES", "StartPattern"]

MAX_PATTERN_BYTES: Final = 1024

_MAX_MEMORY: Final = 4 << 20
"""Of the compiled expression and its caches; RE2 goes on more slowly when these are full."""

_OF_THE_TEXT: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[AzCQ]|\(\?[a-zA-Z]*-[a-zA-Z]*m")
"""What would be about a whole piece, instead of a line; `\\Q` quotes, and could hide the rest."""


class StartPattern:
    """Finds lines that begin with a match."""

    def __init__(self, pattern: str) -> None:
        """Raises `ValueError` for what is no expression, or not one about lines."""
        source = pattern.encode()
        if len(source) > MAX_PATTERN_BYTES:
            raise ValueError(f"longer than {MAX_PATTERN_BYTES} bytes")
        if "\n" in pattern:
            raise ValueError("holds a newline, which no line does")
        if found := _OF_THE_TEXT.search(pattern):
            raise ValueError(f"'{found[0]}' cannot stand here: use ^ and $ for a line's ends")
        options = re2.Options()
        options.never_capture = True
        options.never_nl = True
        options.log_errors = False
        options.max_mem = _MAX_MEMORY
        try:
            re2.compile(source, options)  # by itself: what is put around it could mend it
            self._search = re2.compile(b"(?m)^(?:" + source + b")", options).finditer
        except re2.error as error:
            (reason,) = error.args
            text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise ValueError(f"not a regular expression (RE2 syntax): {text}") from error

    def starts(self, lines: bytes) -> list[int]:
        """Where those of `lines` begin that begin with a match, in order."""
        end = len(lines)
        # An empty match is given twice, and also behind the last newline, where no line is.
        found = dict.fromkeys(match.start() for match in self._search(lines))
        found.pop(end, None)
        return list(found)
