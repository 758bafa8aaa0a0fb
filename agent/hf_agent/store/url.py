"""Stores and containers by URL: `s3://bucket/prefix`, `file:///directory`.

URLs are taken as they stand: nothing in them is percent-decoded, since keys may contain any
character and this is how other S3 tools read them.
"""

from __future__ import annotations

import random
from pathlib import Path

from hf_agent.clock import Clock
from hf_agent.store.base import Store
from hf_agent.store.directory import DirectoryStore
from hf_agent.store.observer import Observer
from hf_agent.store.options import S3Options

__all__ = ["StoreUrlError", "open_store", "split_uri"]


class StoreUrlError(ValueError):
    """A URL that names no store, or no container. The message says what it should look like."""


def open_store(
    url: str,
    *,
    options: S3Options | None = None,
    clock: Clock,
    rng: random.Random,
    observer: Observer | None = None,
) -> Store:
    """The store at a URL; touches neither disk nor network. Raises `StoreUrlError`."""
    scheme, place, path = _parse(url)
    if scheme == "file":
        return DirectoryStore(Path(path), clock=clock, rng=rng, observer=observer)
    # Only here: the S3 libraries are large, and the directory store needs none of them.
    from hf_agent.store.s3 import S3Store

    return S3Store(place, path, options=options, clock=clock, observer=observer)


def split_uri(uri: str) -> tuple[str, str]:
    """Cut a container's URI into the URL of a store and a key in it. Raises `StoreUrlError`.

    On S3 the store is the whole bucket; of a path, the last segment is the key.
    """
    scheme, place, path = _parse(uri)
    path = path.strip("/")
    if not path:
        raise StoreUrlError(f"the URI names no container, only a store; add its key uri={uri!r}")
    if scheme == "s3":
        return f"s3://{place}", path
    parent, _, key = path.rpartition("/")
    return f"file:///{parent}", key


def _parse(url: str) -> tuple[str, str, str]:
    """Scheme, bucket ("" for files) and path of a URL."""
    scheme, found, rest = url.partition("://")
    if not found or scheme not in ("s3", "file"):
        raise StoreUrlError(
            f"a store is s3://bucket/prefix or file:///directory, nothing else url={url!r}"
        )
    if "?" in rest or "#" in rest:
        raise StoreUrlError(f"a store's URL has no query and no fragment url={url!r}")
    place, _, path = rest.partition("/")
    if scheme == "s3":
        if not place:
            raise StoreUrlError(f"the bucket is missing: s3://bucket/prefix url={url!r}")
        return scheme, place, path
    if place or not rest:
        raise StoreUrlError(
            f"a directory is given as an absolute path after three slashes url={url!r}"
        )
    return scheme, "", rest
