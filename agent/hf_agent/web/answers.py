"""Answers to HTTP requests, as plain text or JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

__all__ = ["condition", "json", "metrics", "problem", "streams"]

_DEFAULT_STREAMS = 1000
_MAX_STREAMS = 10_000
_FRESH = {"Cache-Control": "no-store"}


def json(value: Any) -> web.Response:
    """`value` as JSON."""
    return web.Response(
        body=msgspec.json.encode(value) + b"\n",
        content_type="application/json",
        charset="utf-8",
        headers=_FRESH,
    )


def problem(status: int, text: str) -> web.Response:
    """An error, as a line of text."""
    return web.Response(status=status, text=text + "\n", headers=_FRESH)


def condition(accept: str, well: bool, reasons: Sequence[str], name: str) -> web.Response:
    """200 and `name`, or 503 and the reasons: JSON where `accept` asks for it, else text."""
    if "application/json" in accept:
        response = json({name: well, "reasons": list(reasons)})
    else:
        response = problem(200, name if well else "\n".join(reasons) or f"not {name}")
    response.set_status(200 if well else 503)
    return response


def metrics(registry: CollectorRegistry, accept: str) -> web.Response:
    """All metrics, as OpenMetrics or in Prometheus' text format."""
    encode, content_type = choose_encoder(accept)
    return web.Response(body=encode(registry), headers={**_FRESH, "Content-Type": content_type})


def streams(query: Callable[[str, str], str], rows: Iterable[dict[str, Any]]) -> web.Response:
    """Streams by prefix, a bounded number: `query` gives a parameter, or its default."""
    limit = query("limit", str(_DEFAULT_STREAMS))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= _MAX_STREAMS:
        return problem(400, f"limit must be a whole number from 1 to {_MAX_STREAMS}")
    prefix = query("prefix", "")
    wanted = (row for row in rows if str(row.get("stream", "")).startswith(prefix))
    found = list(islice(wanted, int(limit) + 1))
    truncated = len(found) > int(limit)
    return json({"streams": found[: int(limit)], "truncated": truncated})
