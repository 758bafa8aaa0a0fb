"""Stores and containers by URL: `s3://bucket/prefix`, `file:///directory`, `file:./directory`.

URLs are taken as they stand: nothing in them is percent-decoded, since keys may contain any
character and this is how other S3 tools read them. `hyperfile://bucket/key`, fsspec's name, is the
same as `s3://bucket/key`.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

from hf_agent.clock import Clock
from hf_agent.store.base import Store
from hf_agent.store.directory import DirectoryStore
from hf_agent.store.observer import Observer
from hf_agent.store.options import S3Options

__all__ = ["StoreUrlError", "absolute_url", "container_uri", "open_store", "split_uri"]

_SCHEME = re.compile(r"(s3|file|hyperfile):(/*)(.*)", re.IGNORECASE | re.DOTALL)


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


def absolute_url(url: str) -> str:
    """`url`, where a relative `file:` URL (`file:./data`) is taken from the current directory.

    The relative form exists for a configuration, or a command, that must work in any directory.
    """
    path = url.removeprefix("file:")
    if path == url or not path or path.startswith("//"):
        return url
    return f"file://{_absolute(path)}"


def container_uri(name: str | os.PathLike[str]) -> str:
    """The URI of a container that is named as Python's `open` names files: by URI, or by path.

    What begins like a URI is one, also when it is none that is good (`s3:/bucket/key`): it would
    hardly ever be the path of a file.
    """
    text = os.fspath(name)
    if not isinstance(name, str):
        return f"file://{_absolute(text)}"
    if "://" in text or _SCHEME.match(text):
        return absolute_url(text)
    if not text:
        raise StoreUrlError("the name of a container is empty: give a path or s3://bucket/key")
    return f"file://{_absolute(text)}"


def _absolute(path: str) -> str:
    # `abspath` keeps two slashes at the beginning, as POSIX wants; here they would end a host.
    return "/" + os.path.abspath(path).lstrip("/")  # noqa: PTH100 - must not ask the disk


def _meant(url: str) -> str:
    """The URL that was most likely meant by one that is none, for the error."""
    found = _SCHEME.match(url)
    if found is not None:
        scheme, _, rest = found.groups()
        scheme = scheme.lower()
        if not rest:
            return ""
        meant = f"file:///{rest}" if scheme == "file" else f"{scheme}://{rest}"
    elif url and "://" not in url:
        meant = f"file://{_absolute(url)}"
    else:
        return ""
    return f"; did you mean {meant}?"


def _parse(url: str) -> tuple[str, str, str]:
    """Scheme, bucket ("" for files) and path of a URL."""
    scheme, found, rest = absolute_url(url).partition("://")
    if not found or scheme not in ("s3", "file", "hyperfile"):
        raise StoreUrlError(
            f"a store is s3://bucket/prefix or file:///directory, nothing else{_meant(url)} "
            f"url={url!r}"
        )
    if scheme == "hyperfile":
        if "::" in rest:
            raise StoreUrlError(
                f"a chained URL is for fsspec; here it is file:///directory/key url={url!r}"
            )
        scheme = "s3"
    if "?" in rest or "#" in rest:
        raise StoreUrlError(f"a store's URL has no query and no fragment url={url!r}")
    place, _, path = rest.partition("/")
    if scheme == "s3":
        if not place:
            raise StoreUrlError(f"the bucket is missing: s3://bucket/prefix url={url!r}")
        return scheme, place, path
    if place or not rest:
        raise StoreUrlError(
            f"a directory is given as an absolute path after three slashes{_meant(url)} url={url!r}"
        )
    return scheme, "", rest
