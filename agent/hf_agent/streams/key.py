"""The key of a stream's container below the store's URL, from the template `store.key`."""

from __future__ import annotations

__all__ = ["StreamKeys", "conflict_key"]


class StreamKeys:
    """Fills `{node}` and `{stream}` of a key template."""

    def __init__(self, template: str, node: str) -> None:
        self._template = template
        self._node = node

    def key(self, stream: str) -> str:
        """The container's key of `stream`, without a leading slash."""
        # Two plain replacements, not str.format: a stream's name may hold no braces, but the
        # template is an operator's and must not reach attributes or format specifications.
        parts = self._template.split("{stream}")
        return stream.join(part.replace("{node}", self._node) for part in parts)

    @property
    def own_prefix(self) -> str:
        """What every key of this node, and of no other one, starts with; ends in '/'.

        Empty when the template does not give each node a folder of its own.
        """
        folder, slash, _ = self._template.partition("{stream}")[0].rpartition("/")
        if not slash or "{node}" not in folder:
            return ""
        return folder.replace("{node}", self._node) + "/"


def conflict_key(origin: str, ulid: str) -> str:
    """The sibling key to which a stream goes when somebody else writes at `origin`."""
    return f"{origin}.conflict-{ulid}"
