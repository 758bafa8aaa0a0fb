"""Where containers are: what the URL of a store must look like in a configuration."""

from __future__ import annotations

from hf_agent.store.url import absolute_url

__all__ = ["check_url"]


def check_url(url: str) -> None:
    """Raise `ValueError` that says what is wrong with a store's URL."""
    if not url:
        raise ValueError("empty: give s3://bucket/prefix or file:///path")
    if "?" in url or "#" in url:
        raise ValueError("'?' and '#' have no meaning in the URL of a store")
    scheme, found, rest = absolute_url(url).partition("://")
    if not found or scheme not in ("s3", "file"):
        raise ValueError("unknown kind of store: write s3://bucket/prefix or file:///path")
    place = rest.partition("/")[0]
    if scheme == "s3" and not place:
        raise ValueError("no bucket: write s3://bucket/prefix")
    if scheme == "s3" and ("@" in place or ":" in place):
        raise ValueError("only a bucket may stand after s3://: credentials come from AWS_*")
    if scheme == "file" and (place or not rest):
        raise ValueError(
            "a directory is an absolute path after three slashes, file:///path, or one "
            "below the current directory, file:./path"
        )
