"""Listings of directory buckets: in no order that means anything, in pages, with opaque tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from support.s3_servers.messages import Request, Response
from support.s3_servers.proxy import Handler

__all__ = ["list_unordered"]

_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
_TAG = f"{{{_XMLNS}}}"
_NAMED = {f"{_TAG}Contents": f"{_TAG}Key", f"{_TAG}CommonPrefixes": f"{_TAG}Prefix"}
"""The entries of a listing, and where their name stands in them."""
_MOST_IN_A_PAGE = 1000
_FEWEST_IN_A_PAGE = 3

ElementTree.register_namespace("", _XMLNS)


async def list_unordered(
    request: Request,
    inner: Handler,
    *,
    uploads: Iterable[str],
    etag: Callable[[str, str], str],
) -> Response:
    """Answer ListObjectsV2 from the whole of `inner`'s listing.

    `uploads` are the keys of multipart uploads in progress: their prefixes are listed too. `etag`
    gives what is shown for a key and the server's etag.
    """
    query = request.query
    entries: dict[str, ElementTree.Element] = {}
    token = ""
    while True:
        answer = await _page(request, inner, token)
        if answer.status != 200:
            return answer
        root = ElementTree.fromstring(answer.body)
        for element in root:
            if element.tag in _NAMED:
                entries[element.findtext(_NAMED[element.tag], "")] = element
        token = root.findtext(f"{_TAG}NextContinuationToken", "")
        if not token:
            break
    for prefix in _prefixes(uploads, query.get("prefix", ""), query.get("delimiter", "")):
        if prefix not in entries:
            entries[prefix] = ElementTree.Element(f"{_TAG}CommonPrefixes")
            ElementTree.SubElement(entries[prefix], f"{_TAG}Prefix").text = prefix
    for name, element in entries.items():
        if (shown := element.find(f"{_TAG}ETag")) is not None:
            shown.text = f'"{etag(name, (shown.text or "").strip(chr(34)))}"'
    return _render(query, entries)


async def _page(request: Request, inner: Handler, token: str) -> Response:
    """A page of the server's own listing; names are not encoded, so that they can be compared."""
    kept = {"list-type": "2"}
    kept |= {name: request.query[name] for name in ("prefix", "delimiter") if name in request.query}
    if token:
        kept["continuation-token"] = token
    target = f"/{request.bucket}?{urlencode(kept, quote_via=quote)}"
    return (await inner(Request("GET", target, dict(request.headers), b""))).response


def _prefixes(keys: Iterable[str], prefix: str, delimiter: str) -> set[str]:
    if not delimiter:
        return set()
    rests = (key.removeprefix(prefix) for key in keys if key.startswith(prefix))
    return {prefix + rest.split("/")[0] + "/" for rest in rests if "/" in rest}


def _place(name: str) -> str:
    """Where an entry stands in the order: its page does not change when others come or go."""
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def _render(query: dict[str, str], entries: dict[str, ElementTree.Element]) -> Response:
    after = query.get("continuation-token", "")
    ordered = sorted((_place(name), name) for name in entries)
    left = [(place, name) for place, name in ordered if place > after]
    # A page may hold less than what was asked for: so even a short listing is one of several.
    few = max(len(ordered) // 3, _FEWEST_IN_A_PAGE)
    page = left[: min(int(query.get("max-keys") or _MOST_IN_A_PAGE), _MOST_IN_A_PAGE, few)]
    root = ElementTree.Element(f"{_TAG}ListBucketResult")
    ElementTree.SubElement(root, f"{_TAG}KeyCount").text = str(len(page))
    truncated = len(page) < len(left)
    ElementTree.SubElement(root, f"{_TAG}IsTruncated").text = str(truncated).lower()
    if truncated:
        ElementTree.SubElement(root, f"{_TAG}NextContinuationToken").text = page[-1][0]
    root.extend(entries[name] for _, name in page)
    return Response(200, {"content-type": "application/xml"}, ElementTree.tostring(root))
