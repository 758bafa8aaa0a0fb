"""Where a path of the file system lies: the URL of a store, and a key in it."""

from __future__ import annotations

from typing import NamedTuple

from hf_agent.store.url import StoreUrlError, container_uri, split_uri

__all__ = ["Place", "Root", "root_url"]


class Place(NamedTuple):
    """A container, or the common beginning of some."""

    store_url: str
    key: str
    """In the store; "" is the store itself."""


class Root:
    """What paths are relative to: all buckets of S3 ("") or one URL, `s3://...` or `file:///...`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def uri(self, path: str) -> str:
        """The URI of a path."""
        path = path.strip("/")
        if not self.url:
            return f"s3://{path}"
        return f"{self.url}/{path}" if path else self.url

    def container(self, path: str) -> Place:
        """A path as that of a container. Raises `FileNotFoundError` where none can be."""
        try:
            return Place(*split_uri(self.uri(path)))
        except StoreUrlError as error:
            raise FileNotFoundError(f"no container can be there: {error}") from error

    def folder(self, path: str) -> Place:
        """A path as that of a folder: its key ends in '/', or is "".

        Raises `FileNotFoundError` for the root of S3: buckets are not listed.
        """
        uri = self.uri(path)
        scheme, _, rest = uri.partition("://")
        if scheme == "file":
            return Place(uri if rest.strip("/") else "file:///", "")
        bucket, _, prefix = rest.partition("/")
        if not bucket:
            raise FileNotFoundError("buckets are not listed: name one, as in hyperfile://bucket")
        return Place(f"s3://{bucket}", f"{prefix}/" if prefix else "")


def root_url(fo: str, target_protocol: str | None) -> str:
    """The URL that fsspec's `fo` and `target_protocol` name; "" where paths begin with a bucket."""
    if fo and "://" not in fo and target_protocol == "s3":
        return f"s3://{fo}"
    return container_uri(fo) if fo else ""
