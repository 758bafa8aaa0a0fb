"""What is drawn of a look at an agent. Draws the same for the same look; asks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hf_agent.cli.status.figures import age, amount, bar, clean, size
from hf_agent.cli.status.look import Look

__all__ = ["ONCE", "draw"]

ONCE: Final = 20
"""Rows of streams where nothing bounds them: one look, printed."""
_LAST_ERRORS: Final = 5
_MOST_TROUBLES: Final = 8
_BAR: Final = 20
_RECENT: Final = 3
"""Points of the history that stand for now: what flickers cannot be read."""
_FULL: Final = ((0.8, "red"), (0.5, "yellow"), (0.0, "green"))
"""The share of the WAL from which on its bar has a colour; the alert is at the first."""
_RANK: Final = {"red": 2, "yellow": 1, "green": 0}


def draw(
    look: Look,
    now: float,
    *,
    rates: Mapping[str, float] | None = None,
    height: int | None = None,
    notice: Text | None = None,
) -> RenderableType:
    """The agent as one look found it, at `now` in Unix seconds.

    `rates`: bytes a second by stream, where two looks have shown them. `height`: lines there are;
    as many streams are left out as do not fit. `notice` stands on top.
    """
    above: list[RenderableType] = [notice] if notice is not None else []
    above += [_head(look, now), *_reasons(look), Text(), _sums(look, now)]
    below: list[RenderableType] = list(_errors(look, now))
    if look.unknown:
        return Group(*above, Text(), Text(clean(look.unknown), style="dim"))
    # The table has an empty line above it, and its own head.
    taken = sum(map(_lines, (*above, *below))) + 2
    most = ONCE if height is None else max(height - taken, 1)
    return Group(*above, Text(), _streams(look, now, rates or {}, most), *below)


def _lines(part: RenderableType) -> int:
    return part.row_count if isinstance(part, Table) else 1


def _line(text: object, style: str = "") -> Text:
    return Text(clean(text), style=style, no_wrap=True, overflow="ellipsis")


def _head(look: Look, now: float) -> Text:
    status = look.status
    troubles = list(_troubles(look))
    worst = max((colour for colour, _ in troubles), key=_RANK.__getitem__, default="green")
    if status["ready"]:
        word = "taking appends" if not troubles else "taking appends, with trouble"
    else:
        worst, word = "red", "not ready"
    head = _line("● ", worst)
    head.append(clean(status["node"]), "bold")
    head.append(f"  {clean(status['phase'])}, {word}", worst)
    up = age(now - status["started_timestamp"])
    head.append(f"  hf-agent {clean(status['version'])}, up {up}", "dim")
    return head


def _reasons(look: Look) -> Iterator[Text]:
    troubles = list(_troubles(look))
    for colour, text in troubles[:_MOST_TROUBLES]:
        yield _line(f"  {text}", colour)
    if len(troubles) > _MOST_TROUBLES:
        yield _line(f"  and {len(troubles) - _MOST_TROUBLES} more", "dim")


def _troubles(look: Look) -> Iterator[tuple[str, str]]:
    """Everything that is not as it should be, with its colour."""
    status = look.status
    for reason in status["reasons"]:
        yield "red", reason
    store = status.get("store", {})
    if store.get("away"):
        why = f": {store['reason']}" if store["reason"] else ""
        yield "yellow", f"the store is away{why}; appends go on into the WAL"
    for cause in look.overview["causes"] if look.overview else ():
        who = cause["stream"] or _streams_of(cause["streams"])
        yield "yellow", f"flush of {who} ({cause['result']}): {cause['code']}"
    if diverted := status.get("diverted_streams"):
        yield "yellow", f"diverted by another writer: {_streams_of(diverted)}"


def _sums(look: Look, now: float) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True, min_width=len("to flush"))
    table.add_column(no_wrap=True, overflow="ellipsis")
    status, overview = look.status, look.overview
    if wal := status.get("wal"):
        share = wal["size_bytes"] / wal["max_bytes"]
        colour = next(colour for least, colour in _FULL if share >= least)
        line = _line(wal["state"])
        line.append(f"  {bar(share, _BAR)}", colour)
        line.append(f"  {share:.0%} of {size(wal['max_bytes'])}")
        table.add_row("WAL", line)
        oldest = status["oldest_unflushed_timestamp"]
        waits = f"{size(status['unflushed_bytes'])} of {_streams_of(status['unflushed_streams'])}"
        lag = f"{waits}, the oldest for {age(now - oldest)}" if oldest else "nothing"
        table.add_row("to flush", _line(f"{lag}  (streams: {amount(status['streams'])})"))
        table.add_row("store", _line(f"{status['store']['url']}"))
    if overview is None:
        return table
    history = overview["history"]
    table.add_row(
        "received",
        _line(
            f"{size(_now(history['received_bytes']))}/s, "
            f"{amount(_now(history['received_records']))} records/s"
        ),
    )
    latency = [each for each in history["latency_p99"][-_RECENT:] if each is not None]
    durable = f", durable within {age(max(latency))} (p99)" if latency else ""
    table.add_row("flushed", _line(f"{size(_now(history['flushed_bytes']))}/s{durable}"))
    for row in overview["protocols"]:
        if row["connections"] or row["received_records"]:
            refused = (
                f", {amount(row['rejected_records'])} refused" if row["rejected_records"] else ""
            )
            table.add_row(
                row["protocol"],
                _line(
                    f"{amount(row['connections'])} connections, "
                    f"{amount(row['received_records'])} records received, "
                    f"{amount(row['acked_records'])} acknowledged{refused}"
                ),
            )
    return table


def _streams_of(count: int) -> str:
    return f"{amount(count)} stream{'' if count == 1 else 's'}"


def _now(values: list[float]) -> float:
    last = values[-_RECENT:]
    return sum(last) / len(last) if last else 0.0


def _streams(look: Look, now: float, rates: Mapping[str, float], most: int) -> RenderableType:
    if not look.streams:
        return _line("no streams yet", "dim")
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    # Names and errors give way where the line is short; figures that are cut would be wrong.
    table.add_column("STREAM")
    for name in ("RECEIVED", "FLUSHED", "LAG", "AGE", *(["RATE"] if rates else []), "LAST FLUSH"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("ERROR")
    rows = sorted(look.streams, key=lambda row: rates.get(row["stream"], 0.0), reverse=True)
    for row in rows[:most]:
        table.add_row(*_cells(row, now, rates))
    return table


def _cells(
    row: Mapping[str, Any], now: float, rates: Mapping[str, float]
) -> Iterator[RenderableType]:
    since, last = row["oldest_unflushed_timestamp"], row["last_flush_timestamp"]
    yield _line(row["stream"])
    yield size(row["position"])
    yield size(row["committed"])
    yield size(row["unflushed_bytes"]) if row["unflushed_bytes"] else "-"
    yield age(now - since) if since else "-"
    if rates:
        rate = rates.get(row["stream"])
        yield "-" if rate is None else f"{size(rate)}/s"
    yield f"{age(now - last)} ago" if last else "-"
    yield _line(row["error"], "red")


def _errors(look: Look, now: float) -> Iterator[Text]:
    events = look.overview["events"][:_LAST_ERRORS] if look.overview else []
    if events:
        yield Text()
        yield _line("LAST WARNINGS AND ERRORS", "bold")
    for event in events:
        moment = datetime.fromtimestamp(event["timestamp"], UTC).strftime("%H:%M:%SZ")
        fields = "".join(f" {key}={value}" for key, value in event["fields"].items())
        colour = "red" if event["level"] == "error" else "yellow"
        yield _line(f"{moment} {event['level']}: {event['message']}{fields}", colour)
