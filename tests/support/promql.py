"""What PromQL expressions name, and what an agent exports: as far as tests must compare the two."""

from __future__ import annotations

import re
from typing import NamedTuple

from hf_agent.metrics import Metrics

__all__ = ["Exported", "Selector", "exported", "selectors", "unknown_in"]

_SELECTOR = re.compile(r"\b((?:hf_agent|process)_[a-z_]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_OF_PROMETHEUS = frozenset({"job", "instance"})


class Selector(NamedTuple):
    """A metric's name, and the values that its matchers compare a label with."""

    name: str
    labels: dict[str, list[str]]


class Exported(NamedTuple):
    """Every sample's name, with the values that each of its labels has."""

    samples: dict[str, dict[str, set[str]]]


def exported() -> Exported:
    """What an agent that has just started exports."""
    samples: dict[str, dict[str, set[str]]] = {}
    for family in Metrics().registry.collect():
        for sample in family.samples:
            labels = samples.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return Exported(samples)


def selectors(expression: str) -> list[Selector]:
    """The agent's metrics in an expression."""
    found = []
    for name, matchers in _SELECTOR.findall(expression):
        labels = {
            label: [] if value.startswith("$") else value.split("|")
            for label, _, value in _MATCHER.findall(matchers)
        }
        found.append(Selector(name, labels))
    return found


def unknown_in(expression: str, known: Exported) -> list[str]:
    """What an expression names that no agent exports: metrics, labels, values of labels."""
    wrong = []
    for selector in selectors(expression):
        labels = known.samples.get(selector.name)
        if labels is None:
            wrong.append(selector.name)
            continue
        for label, values in selector.labels.items():
            if label in _OF_PROMETHEUS:
                continue
            if label not in labels:
                wrong.append(f"{selector.name}{{{label}}}")
            else:
                wrong += [
                    f'{selector.name}{{{label}="{value}"}}'
                    for value in values
                    if value not in labels[label]
                ]
    return wrong
