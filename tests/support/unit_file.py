"""A systemd unit as its settings."""

from __future__ import annotations

from pathlib import Path

__all__ = ["UnitFile"]


class UnitFile:
    """Sections, and every value that each setting is given, in order."""

    def __init__(self, path: Path) -> None:
        self.sections: dict[str, dict[str, list[str]]] = {}
        section: dict[str, list[str]] = {}
        for line in path.read_text().replace("\\\n", " ").splitlines():
            if not line.strip() or line.startswith(("#", ";")):
                continue
            if line.startswith("["):
                section = self.sections.setdefault(line.strip("[]"), {})
                continue
            name, _, value = line.partition("=")
            section.setdefault(name, []).append(value)

    def one(self, section: str, name: str) -> str:
        """The value of a setting that is given once."""
        (value,) = self.sections[section][name]
        return value

    def seconds(self, section: str, name: str) -> float:
        """A time span in seconds: one number and one unit."""
        value = self.one(section, name)
        number = value.rstrip("smin")
        unit = value.removeprefix(number)
        return float(number) * {"s": 1, "": 1, "min": 60}[unit]
