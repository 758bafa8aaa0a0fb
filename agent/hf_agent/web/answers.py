"""Answers to HTTP requests, as plain text or JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from hf_agent.web.page import Page
from hf_agent.web.queries import BadQuery, StreamQuery, parse_stream_query

__all__ = ["condition", "json", "metrics", "page", "problem", "streams", "unknown_name"]

_MOST_OF_A_NAME = 255
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


def unknown_name(host: str) -> web.Response:
    """Refuse who asks for `host`, another server as far as this one knows."""
    shown = host[:_MOST_OF_A_NAME].encode("ascii", "backslashreplace").decode()
    return problem(
        403,
        "this agent is not known by that name: ask by an address, or add the name to "
        f"http.allowed_hosts host={shown}",
    )


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


def page(content: Page, if_none_match: str) -> web.Response:
    """The status page, or word that the browser has it."""
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": content.policy,
        "ETag": content.etag,
    }
    if if_none_match == content.etag:
        return web.Response(status=304, headers=headers)
    return web.Response(
        body=content.body, content_type="text/html", charset="utf-8", headers=headers
    )


def streams(
    parameters: Mapping[str, str],
    find: Callable[[StreamQuery], tuple[list[dict[str, Any]], int]],
) -> web.Response:
    """A page of streams. `find` gives its rows, and how many there would be without a limit."""
    try:
        query = parse_stream_query(parameters)
    except BadQuery as error:
        return problem(400, str(error))
    rows, matched = find(query)
    truncated = query.offset + len(rows) < matched
    return json({"streams": rows, "matched": matched, "truncated": truncated})
