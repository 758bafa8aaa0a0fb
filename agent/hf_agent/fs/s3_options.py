"""S3 options by the names that users of fsspec know from s3fs, and by those of `S3Options`.

What s3fs has and this does not is refused, never ignored: an option that somebody has set for
safety, or for cost, must not be without effect in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from botocore import UNSIGNED

from hf_agent.store.option_names import check_option_names
from hf_agent.store.options import S3Options

__all__ = ["s3_options"]

_OWN: dict[str, Any] = {
    field.name: field.default for field in fields(S3Options) if field.default is not MISSING
}
_TOP = {
    **{name: name for name in _OWN},
    "key": "access_key_id",
    "username": "access_key_id",
    "secret": "secret_access_key",
    "password": "secret_access_key",
    "token": "session_token",
    "anon": "anonymous",
    "max_concurrency": "part_concurrency",
}
_CLIENT = {
    "region_name": "region",
    "endpoint_url": "endpoint_url",
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}
_CONFIG = {
    "region_name": "region",
    "max_pool_connections": "pool_size",
    "connect_timeout": "connect_timeout",
    "read_timeout": "read_timeout",
}
_CONFIG_S3 = {"addressing_style": "addressing"}
_REQUESTS = {
    "ServerSideEncryption": "sse",
    "SSEKMSKeyId": "sse_kms_key_id",
    "BucketKeyEnabled": "sse_bucket_key",
    "StorageClass": "storage_class",
    "ChecksumAlgorithm": "checksum",
}
_FIXED = {
    "requester_pays": (False, "the requester's account is never charged for others' buckets"),
    "version_aware": (False, "a container has versions of its own: open it at a checkpoint"),
    "cache_regions": (True, "a bucket's region is found by itself, and kept"),
    "fixed_upload_size": (False, "parts have the size that part_bytes says"),
}
"""What s3fs lets one choose, and what it is here: that value is taken, any other one is refused."""


def s3_options(given: Mapping[str, Any]) -> S3Options:
    """Options of a store on S3. Those that are None count as not given.

    As in s3fs: `key`, `secret`, `token`, `anon`, `profile`, `endpoint_url`, `use_ssl`,
    `max_concurrency`; `client_kwargs` with `region_name`, `endpoint_url`, `verify` (a PEM file) and
    the credentials; `config_kwargs` with `max_pool_connections`, `connect_timeout`, `read_timeout`,
    `proxies`, `signature_version` and `s3` with `addressing_style`; `s3_additional_kwargs` with
    `ServerSideEncryption`, `SSEKMSKeyId`, `BucketKeyEnabled`, `StorageClass` and
    `ChecksumAlgorithm`. The names of `S3Options`' own fields are taken too.

    Raises `ValueError` for any other option, with the nearest known name, for a value that is none,
    and for two values of one thing.
    """
    options = {name: value for name, value in given.items() if value is not None}
    client = _pop_mapping(options, "client_kwargs")
    config = _pop_mapping(options, "config_kwargs")
    s3 = _pop_mapping(config, "s3", within="config_kwargs")
    requests = _pop_mapping(options, "s3_additional_kwargs")
    found = _Found()
    use_ssl = [options.pop("use_ssl", None), client.pop("use_ssl", None)]
    found.take_verify(client.pop("verify", None))
    found.take_proxies(config.pop("proxies", None))
    found.take_signature(config.pop("signature_version", None))
    if isinstance(algorithm := requests.get("ChecksumAlgorithm"), str):
        requests["ChecksumAlgorithm"] = algorithm.lower()
    for name, (only, reason) in _FIXED.items():
        value = options.pop(name, only)
        if value is not only:
            raise ValueError(f"{reason} {name}={value!r}")
    nested = ["client_kwargs", "config_kwargs", "s3_additional_kwargs", "use_ssl", *_FIXED]
    found.take(options, _TOP, beside=nested)
    found.take(client, _CLIENT, within="client_kwargs", beside=("verify", "use_ssl"))
    beside = ("proxies", "signature_version", "s3")
    found.take(config, _CONFIG, within="config_kwargs", beside=beside)
    found.take(s3, _CONFIG_S3, within="config_kwargs.s3")
    found.take(requests, _REQUESTS, within="s3_additional_kwargs")
    if False in use_ssl and not found.fields.get("endpoint_url", "").startswith("http:"):
        raise ValueError("without TLS: give an endpoint_url that begins with http:// use_ssl=False")
    return S3Options(**found.fields)


class _Found:
    """Fields of `S3Options`, and by which option each was set."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self._by: dict[str, str] = {}

    def take(
        self,
        options: Mapping[str, Any],
        names: Mapping[str, str],
        *,
        within: str = "",
        beside: tuple[str, ...] | list[str] = (),
    ) -> None:
        """Set what `names` translates; `beside` is known as well, and was looked at before."""
        check_option_names(options, [*names, *beside], within=within)
        for name, value in options.items():
            self.set(names[name], value, f"{within}.{name}" if within else name)

    def set(self, field: str, value: Any, option: str) -> None:
        """Set one field. Raises `ValueError` for a wrong type, and for a second value."""
        kind = type(_OWN[field])
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ValueError(f"{option} is of type {kind.__name__}, not {type(value).__name__}")
        if self.fields.setdefault(field, value) != value:
            raise ValueError(f"{self._by[field]} and {option} are the same option: give one")
        self._by.setdefault(field, option)

    def take_verify(self, value: Any) -> None:
        """A file of certificates; checking them is not left out."""
        if value is False:
            raise ValueError(
                "certificates are checked always: give the PEM file of the server's authority "
                "option=client_kwargs.verify"
            )
        if value is not None and value is not True:
            self.set("ca_bundle", value, "client_kwargs.verify")

    def take_proxies(self, value: Any) -> None:
        """One proxy for both schemes, as botocore's mapping."""
        if value is None:
            return
        if not isinstance(value, Mapping) or len(set(value.values())) != 1:
            raise ValueError(
                "proxies maps http and https to the URL of one proxy option=config_kwargs.proxies"
            )
        check_option_names(value, ("http", "https"), within="config_kwargs.proxies")
        self.set("proxy", next(iter(value.values())), "config_kwargs.proxies")

    def take_signature(self, value: Any) -> None:
        """Requests are signed by version 4, or not at all."""
        if value is UNSIGNED:
            self.set("anonymous", True, "config_kwargs.signature_version")
        elif value not in (None, "s3v4", "v4"):
            raise ValueError(
                f"requests are signed by s3v4, or UNSIGNED config_kwargs.signature_version={value}"
            )


def _pop_mapping(options: dict[str, Any], name: str, *, within: str = "") -> dict[str, Any]:
    value = options.pop(name, None)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        where = f"{within}.{name}" if within else name
        raise ValueError(f"{where} is a mapping of options, not {type(value).__name__}")
    return {key: each for key, each in value.items() if each is not None}
