"""Which store and which key a URL names, and which URLs name none."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.base import Store
from hf_agent.store.directory import DirectoryStore
from hf_agent.store.options import S3Options
from hf_agent.store.s3 import S3Store
from hf_agent.store.url import StoreUrlError, container_uri, open_store, split_uri


def opened(url: str) -> Store:
    return open_store(url, options=S3Options(), clock=SystemClock(), rng=random.Random(1))


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/some/prefix", "bucket", "some/prefix"),
        ("hyperfile://bucket/some/prefix", "bucket", "some/prefix"),
        ("s3://bucket/some/prefix/", "bucket", "some/prefix"),
        ("s3://bucket/as%20it is", "bucket", "as%20it is"),
    ],
)
async def test_an_s3_url_names_bucket_and_prefix(url: str, bucket: str, prefix: str) -> None:
    store = opened(url)
    assert isinstance(store, S3Store)
    assert (store.bucket, store.prefix) == (bucket, prefix)
    await store.close()


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("file:///srv/store", "/srv/store"),
        ("file:///srv/store/", "/srv/store"),
        ("file:///srv/as%20it is", "/srv/as%20it is"),
        ("file:/srv/store", "/srv/store"),
        ("file:/srv/./x/../store", "/srv/store"),
        ("file:///", "/"),
    ],
)
async def test_a_file_url_names_a_directory(url: str, root: str) -> None:
    store = opened(url)
    assert isinstance(store, DirectoryStore)
    assert store.root == Path(root)
    await store.close()


@pytest.mark.parametrize(
    ("uri", "root", "key"),
    [
        ("s3://bucket/key", "s3://bucket", "key"),
        ("s3://bucket/node/app", "s3://bucket", "node/app"),
        ("hyperfile://bucket/node/app", "s3://bucket", "node/app"),
        ("s3://bucket/node/app/", "s3://bucket", "node/app"),
        ("file:///srv/store/node/app", "file:///srv/store/node", "app"),
        ("file:///srv/app/", "file:///srv", "app"),
        ("file:///app", "file:///", "app"),
        ("file:/app", "file:///", "app"),
        ("file:/srv/app", "file:///srv", "app"),
    ],
)
async def test_a_containers_uri_is_cut_into_store_and_key(uri: str, root: str, key: str) -> None:
    assert split_uri(uri) == (root, key)
    await opened(root).close()


async def test_a_relative_file_url_is_below_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("file:./store", "file:store", "file:./x/../store"):
        store = opened(url)
        assert isinstance(store, DirectoryStore)
        assert store.root == tmp_path / "store"
        await store.close()
    assert split_uri("file:./store/app") == (f"file://{tmp_path}/store", "app")


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("/srv/app", "file:///srv/app"),
        ("//srv/app", "file:///srv/app"),
        ("app", "file://{here}/app"),
        ("./node/app", "file://{here}/node/app"),
        (Path("/srv/app"), "file:///srv/app"),
        (Path("s3:/app"), "file://{here}/s3:/app"),
        ("file:/srv/app", "file:///srv/app"),
        ("file:///srv/app", "file:///srv/app"),
        ("file:node/app", "file://{here}/node/app"),
        ("s3://bucket/app", "s3://bucket/app"),
        ("hyperfile://bucket/app", "hyperfile://bucket/app"),
        ("a:b/app", "file://{here}/a:b/app"),
    ],
)
def test_a_container_is_named_by_uri_or_path(
    name: str | Path, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert container_uri(name) == uri.format(here=tmp_path)


def test_a_misspelt_uri_is_not_taken_for_a_path() -> None:
    for name in ("s3:/bucket/app", "s3:bucket/app", "S3://bucket/app", "file:", "file://x/app"):
        with pytest.raises(StoreUrlError):
            split_uri(container_uri(name))
    with pytest.raises(StoreUrlError, match="is empty"):
        container_uri("")


async def test_a_container_written_under_a_root_is_found_by_its_uri(tmp_path: Path) -> None:
    agent = opened(f"file://{tmp_path}/store")
    await agent.create("node/app/inode", b"x")
    root, key = split_uri(f"file://{tmp_path}/store/node/app")
    reader = opened(root)
    assert (await reader.get(f"{key}/inode")).data == b"x"
    await agent.close()
    await reader.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "s3://bucket/prefix or file:///directory"),
        ("bucket/prefix", "s3://bucket/prefix or file:///directory"),
        ("/srv/store", "s3://bucket/prefix or file:///directory"),
        ("http://server/bucket", "s3://bucket/prefix or file:///directory"),
        ("file:", "s3://bucket/prefix or file:///directory"),
        ("/srv/store", "did you mean file:///srv/store?"),
        ("s3:/bucket/key", "did you mean s3://bucket/key?"),
        ("s3:bucket/key", "did you mean s3://bucket/key?"),
        ("hyperfile:/bucket/key", "did you mean hyperfile://bucket/key?"),
        ("hyperfile://key::file:///srv", "a chained URL is for fsspec"),
        ("S3://bucket/key", "did you mean s3://bucket/key?"),
        ("FILE:///srv/store", "did you mean file:///srv/store?"),
        ("file://srv/store", "did you mean file:///srv/store?"),
        ("s3:///prefix", "the bucket is missing"),
        ("s3://", "the bucket is missing"),
        ("file://", "absolute path after three slashes"),
        ("file://relative/store", "absolute path after three slashes"),
        ("s3://bucket/prefix?region=x", "no query"),
        ("file:///srv/store#part", "no query and no fragment"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str, says: str) -> None:
    for parse in (opened, split_uri):
        with pytest.raises(StoreUrlError, match=re.escape(says)) as caught:
            parse(url)
        assert str(caught.value).endswith(f"{url!r}")


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/", "file:///"])
def test_a_uri_without_a_key_names_no_container(uri: str) -> None:
    with pytest.raises(StoreUrlError, match="names no container"):
        split_uri(uri)


def test_the_directory_store_loads_no_s3_library() -> None:
    program = (
        "import random, sys\n"
        "from hf_agent.clock import SystemClock\n"
        "from hf_agent.store.url import open_store\n"
        "open_store('file:///srv', clock=SystemClock(), rng=random.Random())\n"
        "print(sorted({'botocore', 'aiobotocore', 'aiohttp'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
