"""`[store.s3]`: what it becomes, and which values and combinations are refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hf_agent.config import S3, Config, ConfigError, Flush, parse
from hf_agent.config.s3_rules import S3_RANGES
from hf_agent.service.store_options import s3_options
from hf_agent.store.options import S3Options
from hf_agent.store.s3_bucket import is_directory_bucket

MIB = 1 << 20
EXPRESS = "s3://logs--use1-az4--x-s3/prefix"


def config_of(*lines: str, url: str = "s3://bucket/prefix", **environment: str) -> Config:
    text = f'[[listen]]\npath = "/run/a.sock"\n[store]\nurl = "{url}"\n[store.s3]\n'
    return parse(text + "\n".join(lines) + "\n", source="agent.toml", environment=environment)


def error_of(*lines: str, url: str = "s3://bucket/prefix") -> str:
    with pytest.raises(ConfigError) as caught:
        config_of(*lines, url=url)
    (message,) = caught.value.messages
    assert "\n" not in message
    return message


def test_every_key_reaches_the_store() -> None:
    config = config_of(
        'region = "eu-west-1"',
        'endpoint_url = "https://store:9000"',
        'addressing = "path"',
        'profile = "mine"',
        'role_arn = "arn:aws:iam::123456789012:role/path/writer"',
        'external_id = "word"',
        'sse = "aws:kms"',
        'sse_kms_key_id = "${KEY}"',
        "sse_bucket_key = true",
        'storage_class = "STANDARD_IA"',
        'checksum = "crc32c"',
        'ca_bundle = "/etc/ssl/own.pem"',
        'proxy = "http://proxy:3128"',
        'connect_timeout = "2s"',
        'read_timeout = "3s"',
        'request_timeout = "1m"',
        'multipart_threshold = "32MiB"',
        'part_bytes = "16MiB"',
        "part_concurrency = 8",
        KEY="key-1",
    )
    assert s3_options(config.store.s3, Flush(concurrency=10)) == S3Options(
        region="eu-west-1",
        endpoint_url="https://store:9000",
        addressing="path",
        profile="mine",
        role_arn="arn:aws:iam::123456789012:role/path/writer",
        external_id="word",
        sse="aws:kms",
        sse_kms_key_id="key-1",
        sse_bucket_key=True,
        storage_class="STANDARD_IA",
        checksum="crc32c",
        ca_bundle="/etc/ssl/own.pem",
        proxy="http://proxy:3128",
        pool_size=80,
        connect_timeout=2.0,
        read_timeout=3.0,
        request_timeout=60.0,
        multipart_threshold=32 * MIB,
        part_bytes=16 * MIB,
        part_concurrency=8,
    )


def test_without_the_table_the_store_has_its_own_defaults() -> None:
    assert s3_options(S3(), Flush()) == S3Options()


def test_a_bundle_is_found_from_the_directory_where_the_agent_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = s3_options(config_of('ca_bundle = "own.pem"').store.s3, Flush())
    assert options.ca_bundle == f"{tmp_path}/own.pem"


@pytest.mark.parametrize("value", ["true", '"true"'])
def test_a_flag_may_come_from_the_environment(value: str) -> None:
    assert config_of('sse = "aws:kms"', f"sse_bucket_key = {value}").store.s3.sse_bucket_key


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('endpoint_url = "minio:9000"', "not an endpoint: write http://host:port"),
        ('endpoint_url = "http://host:port"', "not an endpoint"),
        ('proxy = "proxy:3128"', "not a proxy: write http://host:port"),
        ('proxy = "socks5://proxy"', "not a proxy"),
        ('addressing = "dns"', 'not one of "auto", "path", "virtual"'),
        ('role_arn = "writer"', "not the ARN of a role: write arn:aws:iam::ACCOUNT:role/NAME"),
        ('role_arn = "arn:aws:iam::1:user/x"', "not the ARN of a role"),
        ('external_id = "word"', "goes with a role: set store.s3.role_arn"),
        ('sse = "aes256"', 'not one of "", "AES256", "aws:kms"'),
        ('sse_kms_key_id = "k"', 'goes with store.s3.sse = "aws:kms" only'),
        ("sse_bucket_key = true", 'goes with store.s3.sse = "aws:kms" only'),
        ('sse_bucket_key = "yes"', "not a flag: write true or false"),
        ("sse_bucket_key = 1", "not a flag: write true or false"),
        ('storage_class = "DEEP_ARCHIVE"', 'not one of "", "STANDARD", "STANDARD_IA"'),
        ('storage_class = "GLACIER"', 'did you mean "GLACIER_IR"?'),
        ('storage_class = "EXPRESS_ONEZONE"', "is for directory buckets only"),
        ('checksum = "md5"', 'not one of "none", "crc32", "crc32c", "sha256"'),
        ("connect_timeout = 0", "must be from 0.1 to 300"),
        ('read_timeout = "2h"', "must be from 0.1 to 3600"),
        ('read_timeout = "10m"', "must not be above store.s3.request_timeout (300s)"),
        ("request_timeout = 0", "must be from 1 to"),
        ('multipart_threshold = "1MiB"', "must be from 5242880"),
        ('part_bytes = "4MiB"', "must be from 5242880"),
        ('part_bytes = "6GiB"', "must be from 5242880"),
        ("part_concurrency = 0", "must be from 1 to 64"),
        ("pool_size = 3", "unknown key"),
    ],
)
def test_what_cannot_be_is_refused(line: str, what: str) -> None:
    message = error_of(line)
    assert message.startswith(f"agent.toml:6: store.s3.{line.split(' = ')[0]} = ")
    assert what in message


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (
            ('sse = "AES256"', 'sse_kms_key_id = "k"'),
            'agent.toml:7: store.s3.sse_kms_key_id = "k": goes with store.s3.sse = "aws:kms" only',
        ),
        (
            ('connect_timeout = "1m"', 'request_timeout = "40s"'),
            'agent.toml:6: store.s3.connect_timeout = "1m": must not be above',
        ),
        (
            ('endpoint_url = "http://store:9000"', 'ca_bundle = "own.pem"'),
            'agent.toml:7: store.s3.ca_bundle = "own.pem": has no effect',
        ),
    ],
)
def test_what_does_not_go_together_is_refused(lines: tuple[str, ...], what: str) -> None:
    assert error_of(*lines).startswith(what)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('sse = "AES256"', "set the default encryption of the bucket instead"),
        ('storage_class = "STANDARD_IA"', "which have EXPRESS_ONEZONE only"),
        ('addressing = "path"', "which have a host name each"),
    ],
)
def test_what_a_directory_bucket_does_not_take_is_refused(line: str, what: str) -> None:
    assert what in error_of(line, url=EXPRESS)
    config_of(line)  # another bucket does


def test_what_a_directory_bucket_takes() -> None:
    config_of('storage_class = "EXPRESS_ONEZONE"', 'checksum = "crc32c"', url=EXPRESS)
    config_of('addressing = "path"', 'endpoint_url = "http://127.0.0.1:1"', url=EXPRESS)
    assert is_directory_bucket(EXPRESS.split("/")[2])


def test_another_kind_of_store_may_have_options_for_commands_that_read_from_s3() -> None:
    assert config_of('region = "eu-west-1"', url="file:///srv").store.s3.region == "eu-west-1"


def test_the_store_takes_every_value_that_the_rules_let_through() -> None:
    for name, bounds in S3_RANGES.items():
        for value in bounds:
            # Timeouts at their most, so that the one in question is the only one at an end.
            others = S3(request_timeout=86_400.0)
            changed = msgspec.structs.replace(others, **{name: type(getattr(S3(), name))(value)})
            s3_options(changed, Flush())
