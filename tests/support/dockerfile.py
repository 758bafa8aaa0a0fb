"""A Dockerfile as its instructions, for tests that say something about them."""

from __future__ import annotations

import re

__all__ = ["Dockerfile", "Stage"]


class Stage:
    """What follows one FROM."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.instructions: list[str] = []

    def all(self, name: str) -> list[str]:
        """The arguments of every such instruction, in their order, on one line each."""
        return [each.partition(" ")[2] for each in self.instructions if each.startswith(name + " ")]

    def last(self, name: str) -> str:
        """Those of the one that counts; fails where there is none."""
        return self.all(name)[-1]


class Dockerfile:
    """Stages, and the arguments before the first of them with their defaults."""

    def __init__(self, text: str) -> None:
        lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        joined = re.sub(r"\s*\\\n\s*", " ", lines)
        self.instructions = [line.strip() for line in joined.splitlines() if line.strip()]
        self.arguments: dict[str, str] = {}
        self.stages: list[Stage] = []
        for each in self.instructions:
            name, _, rest = each.partition(" ")
            if name == "FROM":
                self.stages.append(Stage(rest.split()[0]))
            elif self.stages:
                self.stages[-1].instructions.append(each)
            elif name == "ARG":
                key, _, default = rest.partition("=")
                self.arguments[key] = default
