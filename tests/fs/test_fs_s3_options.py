"""S3 options under s3fs's names become those of the store; what is not known is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from botocore import UNSIGNED

from hf_agent.fs.s3_options import s3_options
from hf_agent.store.options import S3Options
from hf_agent.store.s3_session import make_session, s3_config


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"key": None, "client_kwargs": None}, {}),
        (
            {"key": "k", "secret": "s", "token": "t"},
            {"access_key_id": "k", "secret_access_key": "s", "session_token": "t"},
        ),
        (
            {"username": "k", "password": "s"},
            {"access_key_id": "k", "secret_access_key": "s"},
        ),
        ({"anon": True}, {"anonymous": True}),
        ({"anon": False}, {}),
        ({"profile": "p"}, {"profile": "p"}),
        ({"endpoint_url": "http://host:9000"}, {"endpoint_url": "http://host:9000"}),
        ({"max_concurrency": 7}, {"part_concurrency": 7}),
        (
            {"client_kwargs": {"region_name": "eu-west-1", "endpoint_url": "https://host"}},
            {"region": "eu-west-1", "endpoint_url": "https://host"},
        ),
        (
            {
                "client_kwargs": {
                    "aws_access_key_id": "k",
                    "aws_secret_access_key": "s",
                    "aws_session_token": "t",
                }
            },
            {"access_key_id": "k", "secret_access_key": "s", "session_token": "t"},
        ),
        ({"client_kwargs": {"verify": "/ca.pem"}}, {"ca_bundle": "/ca.pem"}),
        ({"client_kwargs": {"verify": True}}, {}),
        (
            {
                "config_kwargs": {
                    "s3": {"addressing_style": "path"},
                    "max_pool_connections": 50,
                    "connect_timeout": 3,
                    "read_timeout": 4.5,
                    "region_name": "us-east-1",
                    "signature_version": "s3v4",
                    "proxies": {"http": "http://proxy", "https": "http://proxy"},
                }
            },
            {
                "addressing": "path",
                "pool_size": 50,
                "connect_timeout": 3.0,
                "read_timeout": 4.5,
                "region": "us-east-1",
                "proxy": "http://proxy",
            },
        ),
        ({"config_kwargs": {"signature_version": UNSIGNED}}, {"anonymous": True}),
        (
            {
                "s3_additional_kwargs": {
                    "ServerSideEncryption": "aws:kms",
                    "SSEKMSKeyId": "alias/logs",
                    "BucketKeyEnabled": True,
                    "StorageClass": "STANDARD_IA",
                    "ChecksumAlgorithm": "SHA256",
                }
            },
            {
                "sse": "aws:kms",
                "sse_kms_key_id": "alias/logs",
                "sse_bucket_key": True,
                "storage_class": "STANDARD_IA",
                "checksum": "sha256",
            },
        ),
        ({"use_ssl": True}, {}),
        ({"use_ssl": False, "endpoint_url": "http://host"}, {"endpoint_url": "http://host"}),
        ({"version_aware": False, "requester_pays": False, "cache_regions": True}, {}),
        (
            {"addressing": "path", "part_bytes": 5 << 20},
            {"addressing": "path", "part_bytes": 5 << 20},
        ),
        # The same thing said twice is no contradiction.
        ({"region": "a", "client_kwargs": {"region_name": "a"}}, {"region": "a"}),
    ],
)
def test_the_names_of_s3fs_are_understood(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert s3_options(given) == S3Options(**expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"secrit": "x"}, "nearest is secret option=secrit"),
        ({"endpoint": "x"}, "nearest is endpoint_url option=endpoint"),
        ({"qqq": "x"}, "no such option option=qqq known='access_key_id "),
        (
            {"client_kwargs": {"region": "x"}},
            "nearest is client_kwargs.region_name option=client_kwargs.region",
        ),
        ({"client_kwargs": {"api_version": "x"}}, "option=client_kwargs.api_version"),
        ({"config_kwargs": {"retries": {}}}, "option=config_kwargs.retries"),
        (
            {"config_kwargs": {"max_pool_connection": 3}},
            "nearest is config_kwargs.max_pool_connections",
        ),
        (
            {"config_kwargs": {"s3": {"adressing_style": "path"}}},
            "nearest is config_kwargs.s3.addressing_style",
        ),
        ({"s3_additional_kwargs": {"ACL": "private"}}, "option=s3_additional_kwargs.ACL"),
        (
            {"s3_additional_kwargs": {"serversideencryption": "AES256"}},
            "nearest is s3_additional_kwargs.ServerSideEncryption",
        ),
        ({"client_kwargs": {"verify": False}}, "certificates are checked always"),
        ({"use_ssl": False}, "begins with http://"),
        ({"client_kwargs": {"use_ssl": False}, "endpoint_url": "https://h"}, "use_ssl=False"),
        ({"version_aware": True}, "open it at a checkpoint version_aware=True"),
        ({"requester_pays": True}, "requester_pays=True"),
        ({"config_kwargs": {"signature_version": "s3"}}, "signature_version=s3"),
        ({"config_kwargs": {"proxies": {"http": "a", "https": "b"}}}, "one proxy"),
        ({"config_kwargs": {"proxies": {"ftp": "a"}}}, "option=config_kwargs.proxies.ftp"),
        ({"config_kwargs": "fast"}, "config_kwargs is a mapping of options, not str"),
        ({"config_kwargs": {"s3": 1}}, "config_kwargs.s3 is a mapping of options, not int"),
        ({"key": 5, "secret": "s"}, "key is of type str, not int"),
        ({"config_kwargs": {"max_pool_connections": "9"}}, "max_pool_connections is of type int"),
        ({"anon": "yes"}, "anon is of type bool, not str"),
        (
            {"region": "a", "client_kwargs": {"region_name": "b"}},
            "region and client_kwargs.region_name are the same option",
        ),
        ({"key": "k"}, "access_key_id means nothing without secret_access_key"),
        ({"anon": True, "key": "k", "secret": "s"}, "anonymous requests have no credentials"),
        ({"config_kwargs": {"s3": {"addressing_style": "dns"}}}, "addressing is one of"),
    ],
)
def test_what_is_no_option_is_refused_with_the_nearest_that_is(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        s3_options(given)


async def test_anonymous_requests_are_not_signed_and_look_for_no_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    options = S3Options(anonymous=True)
    session = await make_session(options)
    assert await session.get_credentials() is None
    assert s3_config(options).signature_version is UNSIGNED
