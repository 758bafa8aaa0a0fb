"""Conditional writes on one key, and whether some order of them explains what came of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations, product
from typing import Any

__all__ = ["Operation", "Outcome", "explained"]

Outcome = str
"""`ok`, `busy` (somebody holds the lock), or the name of a store error."""

KEY = "folder/object"
_OPEN = (None, "StoreRetry")


@dataclass(frozen=True, slots=True)
class Operation:
    """One write on `KEY`: "create", "replace" or "delete"."""

    kind: str
    body: bytes = b""
    replaces: bytes = b""
    etag: str = ""
    """Of `replaces`."""
    seed: int = 0
    """Of the names of temporary files."""
    key: str = KEY

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self) | {
            "body": base64.b64encode(self.body).decode(),
            "replaces": base64.b64encode(self.replaces).decode(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Operation:
        """The inverse of `to_json`."""
        decoded = {name: base64.b64decode(values[name]) for name in ("body", "replaces")}
        return cls(**{**values, **decoded})

    def on(self, state: bytes | None) -> tuple[bytes | None, Outcome]:
        """What it makes of a state of the key (None: there is no object), and what it says."""
        if self.kind == "delete":
            return None, "ok"
        if self.kind == "create":
            return (self.body, "ok") if state is None else (state, "StoreConflict")
        if state is None:
            return None, "StoreNotFound"
        return (self.body, "ok") if state == self.replaces else (state, "StoreConflict")


def explained(
    before: bytes | None,
    after: bytes | None,
    operations: Sequence[tuple[Operation, Outcome | None]],
) -> bool:
    """Whether the operations, one after the other in some order, make `after` out of `before`.

    An outcome of None is that of a writer that died: it has done all of it, or nothing. The same
    goes for `StoreRetry`. One that was busy has done nothing.
    """
    done = [(each, outcome) for each, outcome in operations if outcome not in (*_OPEN, "busy")]
    dead = [(each, outcome) for each, outcome in operations if outcome in _OPEN]
    for chosen in product((False, True), repeat=len(dead)):
        some = [each for each, took_place in zip(dead, chosen, strict=True) if took_place]
        for order in permutations([*done, *some]):
            state = before
            for operation, outcome in order:
                state, says = operation.on(state)
                if outcome not in (*_OPEN, says):
                    break
            else:
                if state == after:
                    return True
    return False
