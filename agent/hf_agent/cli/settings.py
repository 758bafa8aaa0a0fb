"""What the options that every command has were set to."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(slots=True)
class Settings:
    """Options of the whole command line; a command's own setting wins over the group's."""

    config: str | None = None
    """Path of the configuration file."""
    log_level: str | None = None
    log_format: str | None = None
    debug: bool = False
    """Show tracebacks."""

    def update(self, values: dict[str, object]) -> None:
        """Take those of `values` that were given."""
        for name, value in values.items():
            if value is not None and value is not False:
                setattr(self, name, value)
