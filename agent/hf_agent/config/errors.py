"""What a bad configuration raises."""

from __future__ import annotations

from collections.abc import Sequence

from hf_agent.config.location import KeyPath, Locations, dotted

__all__ = ["ConfigError", "Problems"]


class ConfigError(Exception):
    """The configuration cannot be used. `messages` holds every reason, one line each."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__("\n".join(messages))
        self.messages = tuple(messages)


class Problems:
    """Collects what is wrong, so that all of it is reported at once, in the file's order."""

    def __init__(self, source: str, locations: Locations) -> None:
        self._source = source
        self._locations = locations
        self._found: list[tuple[int, str]] = []
        self._bad: set[KeyPath] = set()

    def add(self, path: KeyPath, what: str) -> None:
        """Something is wrong with the value of a key, or with the lack of it."""
        self._bad.add(path)
        line = self._locations.find(path)
        place = f"{self._source}:{line.number}" if line else self._source
        value = self._locations.value(path)
        shown = f"{dotted(path)} = {value}" if value is not None else dotted(path)
        self._found.append((line.number if line else 0, f"{place}: {shown}: {what}"))

    def silence(self, path: KeyPath) -> None:
        """Nothing can be said of this key: what is around it is wrong already."""
        self._bad.add(path)

    def concern(self, path: KeyPath) -> bool:
        """Whether this key was found wrong, so that no rule about it says anything useful."""
        return path in self._bad

    def raise_if_any(self) -> None:
        """Raise `ConfigError` with all that was found."""
        if self._found:
            self._found.sort(key=lambda found: found[0])
            raise ConfigError([message for _, message in self._found])
