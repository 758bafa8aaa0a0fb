"""S3 options by the names that users of fsspec know from s3fs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_agent.store.options import S3Options

__all__ = ["s3_options"]


def s3_options(given: Mapping[str, Any]) -> S3Options:
    """`key`, `secret`, `token`, `profile`, `endpoint_url` and `client_kwargs` as store options.

    Of `client_kwargs`: `region_name`, `endpoint_url`, `verify`. The names of `S3Options`' own
    fields are taken too. Raises `ValueError` for any other.
    """
    client = dict(given.get("client_kwargs") or {})
    names = {
        "key": "access_key_id",
        "secret": "secret_access_key",
        "token": "session_token",
    }
    known = S3Options.__dataclass_fields__.keys()
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name == "client_kwargs" or value is None:
            continue
        field = names.get(name, name)
        if field not in known:
            raise ValueError(f"no such option option={name} known='{' '.join([*names, *known])}'")
        fields[field] = value
    for name, field in (
        ("region_name", "region"),
        ("endpoint_url", "endpoint_url"),
        ("verify", "ca_bundle"),
    ):
        value = client.pop(name, None)
        if value is not None and value is not True:
            fields.setdefault(field, value)
    if client:
        raise ValueError(f"no such option option=client_kwargs.{min(client)}")
    return S3Options(**fields)
