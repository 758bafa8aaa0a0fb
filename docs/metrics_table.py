"""Writes the table of docs/monitoring.md from the code: `python docs/metrics_table.py`.

A test holds the page to what this makes, so it cannot fall behind.
"""

from __future__ import annotations

from pathlib import Path

from hf_agent.metrics import Metrics

PAGE = Path(__file__).with_name("monitoring.md")

_BEGIN, _END = "<!-- metrics -->\n", "<!-- end of metrics -->"
_LEFT_OUT = ("le", "version", "native")
"""Labels whose values are the histogram's, or this installation's."""
_OF_A_LABEL = 4
"""Values of a label that are named; of more, it is said that there are more."""


def page(text: str) -> str:
    """The page `text` with the table of metrics made anew."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{table()}\n{_END}{after}"


def table() -> str:
    """Every metric of the agent, in the order of the code."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in Metrics().registry.collect():
        labels: dict[str, dict[str, None]] = {}
        for sample in family.samples:
            for name, value in sample.labels.items():
                if name not in _LEFT_OUT:
                    labels.setdefault(name, {})[value] = None
        shown = "; ".join(f"`{name}`: {_values(list(values))}" for name, values in labels.items())
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        kind = "gauge" if family.type == "info" else family.type
        rows.append(f"| `{family.name}{suffix}` | {kind} | {shown} | {family.documentation} |")
    return "\n".join(rows) + "\n"


def _values(values: list[str]) -> str:
    # Codes are the store's: what it answers is only known then.
    more = ", …" if len(values) > _OF_A_LABEL or values == ["ok"] else ""
    return ", ".join(values[:_OF_A_LABEL]) + more


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
