"""What `status` draws of what an agent says: bounded, and nothing that a terminal would obey."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from hf_agent.cli.status.figures import age, amount, bar, clean, size
from hf_agent.cli.status.look import Look
from hf_agent.cli.status.view import draw

NOW = 1_800_000_000.0


def status(**more: Any) -> dict[str, Any]:
    return {
        "version": "1.0",
        "node": "node-1",
        "phase": "running",
        "started_timestamp": NOW - 90_061,
        "ready": True,
        "reasons": [],
        "wal": {"state": "ok", "reason": "", "size_bytes": 6 << 30, "max_bytes": 8 << 30},
        "store": {"url": "s3://bucket/logs", "away": False, "preflight": "passed", "reason": ""},
        "streams": 10_000,
        "diverted_streams": 0,
        "unflushed_streams": 2,
        "unflushed_bytes": 3 << 20,
        "oldest_unflushed_timestamp": NOW - 75,
        **more,
    }


def stream(name: str, **more: Any) -> dict[str, Any]:
    return {
        "stream": name,
        "position": 1023 << 20,
        "committed": 1000 << 20,
        "unflushed_bytes": 23 << 20,
        "oldest_unflushed_timestamp": NOW - 3.24,
        "last_flush_timestamp": NOW - 4000,
        "error": "",
        **more,
    }


def overview(**more: Any) -> dict[str, Any]:
    return {
        "history": {
            "received_records": [9.0, 100.0, 200.0, 300.0],
            "received_bytes": [1.0, 1 << 20, 2 << 20, 3 << 20],
            "flushed_bytes": [0.0, 512.0, 512.0, 512.0],
            "latency_p99": [0.5, None, 0.0021, None],
        },
        "protocols": [
            {
                "protocol": name,
                "connections": connections,
                "received_records": 1_234_567,
                "acked_records": 1_234_560,
                "rejected_records": rejected,
            }
            for name, connections, rejected in (("append", 3, 0), ("syslog", 0, 7))
        ],
        "causes": [],
        "events": [],
        **more,
    }


def drawn(look: Look, columns: int = 120, **more: Any) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=columns, color_system=None)
    console.print(draw(look, NOW, **more))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_look_tells_health_traffic_log_and_streams() -> None:
    look = Look(status(), overview(), [stream("apps/web", error="StoreRetry: timed out")])
    assert drawn(look) == [
        "● node-1  running, taking appends  hf-agent 1.0, up 1d 1h",
        "",
        "WAL       ok  ███████████████░░░░░  75% of 8.0 GiB",
        "to flush  3.0 MiB of 2 streams, the oldest for 1m 15s  (streams: 10,000)",
        "store     s3://bucket/logs",
        "received  2.0 MiB/s, 200 records/s",
        "flushed   512 B/s, durable within 2 ms (p99)",
        "append    3 connections, 1,234,567 records received, 1,234,560 acknowledged",
        "syslog    0 connections, 1,234,567 records received, 1,234,560 acknowledged, 7 refused",
        "",
        "STREAM    RECEIVED   FLUSHED       LAG    AGE  LAST FLUSH  ERROR",
        "apps/web  1023 MiB  1000 MiB  23.0 MiB  3.2 s   1h 6m ago  StoreRetry: timed out",
    ]


def test_every_trouble_is_named_up_to_a_bound() -> None:
    causes = [
        {"stream": "", "streams": index + 1, "result": "retry", "code": f"E{index}"}
        for index in range(20)
    ]
    store = {"url": "s3://b", "away": True, "preflight": "away", "reason": "timed out"}
    look = Look(
        status(ready=False, reasons=["WAL full: the limit"], store=store, diverted_streams=1),
        overview(causes=causes),
    )
    lines = drawn(look)
    assert lines[0].startswith("● node-1  running, not ready")
    assert lines[1:4] == [
        "  WAL full: the limit",
        "  the store is away: timed out; appends go on into the WAL",
        "  flush of 1 stream (retry): E0",
    ]
    assert lines[9:11] == ["  and 15 more", ""]
    look = Look(status(store=store), overview())
    assert drawn(look)[0].startswith("● node-1  running, taking appends, with trouble")


def test_an_agent_that_recovers_has_no_log_yet() -> None:
    bare = {
        key: value
        for key, value in status(
            phase="starting", ready=False, reasons=["recovering the WAL"]
        ).items()
        if key not in ("wal", "store") and "streams" not in key
    }
    lines = drawn(Look(bare, overview()))
    assert lines[0].startswith("● node-1  starting, not ready")
    assert lines[1] == "  recovering the WAL"


def test_the_busiest_stream_stands_first_where_rates_are_known() -> None:
    streams = [stream("quiet"), stream("busy"), stream("new")]
    lines = drawn(Look(status(), overview(), streams), rates={"busy": 2048.0, "quiet": 1.0})
    names = [line.split()[0] for line in lines[-3:]]
    assert names == ["busy", "quiet", "new"]
    assert "2.0 KiB/s" in lines[-3]
    assert "RATE" in lines[-4]


@pytest.mark.parametrize("height", [24, 30, 50])
@pytest.mark.parametrize("events", [0, 50])
def test_as_many_streams_are_drawn_as_there_are_lines_for(height: int, events: int) -> None:
    event = {"timestamp": NOW, "level": "error", "message": "flush failed", "fields": {"a": "b"}}
    look = Look(
        status(),
        overview(events=[event] * events),
        [stream(f"stream-{index}", error="long " * 50) for index in range(100)],
    )
    assert len(drawn(look, height=height)) == height
    # Nothing bounds what is printed once, but a number.
    assert sum(line.startswith("stream-") for line in drawn(look)) == 20


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_no_figure_is_cut_however_long_names_and_errors_are(columns: int) -> None:
    look = Look(status(), overview(), [stream("s" * 200, error="e" * 500)])
    (line,) = [line for line in drawn(look, columns) if line.startswith("ss")]
    assert len(line) <= columns
    for figure in ("1023 MiB", "1000 MiB", "23.0 MiB", "3.2 s", "1h 6m ago"):
        assert figure in line


def test_texts_of_strangers_are_text() -> None:
    evil = "\x1b]0;title\x07\x1b[2J[red]not markup[/red]\nnext line\u202e"
    event = {"timestamp": NOW, "level": "error", "message": evil, "fields": {"reason": evil}}
    look = Look(
        status(reasons=[evil], ready=False),
        overview(events=[event]),
        [stream("one", error=evil)],
    )
    text = "\n".join(drawn(look, 400))
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert text.count("[red]not markup[/red]�next line�") == 4


def test_figures_are_short_and_have_their_unit() -> None:
    assert [size(each) for each in (0, 1, 1023, 1024, 1536, 99.9 * 1024, 1 << 20, 5 << 50)] == [
        *("0 B", "1 B", "1023 B", "1.0 KiB", "1.5 KiB", "99.9 KiB", "1.0 MiB", "5.0 PiB"),
    ]
    assert [size(each) for each in (100 << 10, 1023.6, 1023.6 * 1024)] == [
        *("100 KiB", "1.0 KiB", "1.0 MiB"),
    ]
    assert [age(each) for each in (-1, 0.0021, 0.9999, 59, 60, 3599, 3600, 86_399, 90_000)] == [
        *("0 ms", "2 ms", "1.0 s", "59.0 s", "1m 0s", "59m 59s", "1h 0m", "23h 59m", "1d 1h"),
    ]
    assert [amount(each) for each in (0, 0.25, 3, 9.96, 1234.5)] == [
        "0",
        "0.2",
        "3",
        "10.0",
        "1,234",
    ]
    assert [bar(each, 4) for each in (-1, 0, 0.5, 1, 9)] == ["░░░░", "░░░░", "██░░", "████", "████"]
    assert clean("a\tb\x1b") == "a�b�"
