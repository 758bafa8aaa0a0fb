"""Containers as a file system: fsspec's calls mean what its users expect."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from hf_agent.fs import HyperfileFileSystem
from support.moto_s3 import CREDENTIALS, MotoS3, moto_s3, s3_bucket

__all__ = ["moto_s3", "s3_bucket"]


@pytest.fixture(params=["directory", "s3"])
def fs(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HyperfileFileSystem]:
    if request.param == "directory":
        made = HyperfileFileSystem(fo=f"{tmp_path}/root", target_protocol="file", block_size=4096)
    else:
        server: MotoS3 = request.getfixturevalue("moto_s3")
        bucket: str = request.getfixturevalue("s3_bucket")
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        made = HyperfileFileSystem(
            fo=f"s3://{bucket}/root",
            target_options={
                "endpoint_url": server.endpoint_url,
                "key": "testing",
                "secret": "testing",
                "client_kwargs": {"region_name": "us-east-1"},
                "addressing": "path",
            },
            block_size=4096,
        )
    yield made
    made.close()
    HyperfileFileSystem.clear_instance_cache()


def test_files_and_folders_are_listed(fs: HyperfileFileSystem) -> None:
    fs.pipe({"a": b"1", "sub/b": b"22", "sub/deep/c": b"333"})
    assert fs.ls("", detail=False) == ["a", "sub"]
    assert [entry["type"] for entry in fs.ls("")] == ["file", "directory"]
    assert fs.ls("sub", detail=False) == ["sub/b", "sub/deep"]
    assert fs.ls("sub/b", detail=False) == ["sub/b"]
    assert fs.find("") == ["a", "sub/b", "sub/deep/c"]
    assert fs.glob("sub/**") == ["sub", "sub/b", "sub/deep", "sub/deep/c"]
    assert fs.glob("*/b") == ["sub/b"]
    assert [(path, sorted(files)) for path, _, files in fs.walk("")] == [
        ("", ["a"]),
        ("sub", ["b"]),
        ("sub/deep", ["c"]),
    ]
    assert fs.du("") == 6
    assert fs.exists("sub/deep/c")
    assert fs.isdir("sub/deep")
    assert fs.isfile("sub/deep/c")
    assert not fs.exists("sub/deep/d")
    with pytest.raises(FileNotFoundError):
        fs.ls("nothing")
    with pytest.raises(FileNotFoundError):
        fs.info("nothing")


def test_info_tells_what_a_container_is(fs: HyperfileFileSystem) -> None:
    fs.pipe("a", b"x" * 5000)
    info = fs.info("a")
    assert (info["name"], info["size"], info["type"]) == ("a", 5000, "file")
    assert info["checkpoint"] == 1
    assert fs.modified("a").tzinfo is not None
    assert fs.size("a") == 5000


def test_the_key_changes_with_the_content_and_only_then(fs: HyperfileFileSystem) -> None:
    fs.pipe("a", b"one")
    before = fs.ukey("a")
    assert fs.ukey("a") == before
    with fs.open("a", "ab") as file:
        file.write(b"two")
    assert fs.ukey("a") != before
    assert fs.checksum("a") != int(before, 16)


def test_ranges_are_slices(fs: HyperfileFileSystem) -> None:
    content = random.Random(3).randbytes(50_000)
    fs.pipe("a", content)
    fs.pipe("b", b"short")
    assert fs.cat("a") == content
    assert fs.cat_file("a", 100, 20_000) == content[100:20_000]
    assert fs.cat_file("a", -10) == content[-10:]
    assert fs.cat_file("a", 49_990, 60_000) == content[49_990:]
    got = fs.cat_ranges(["a", "b", "a"], [5, None, -7], [9, 3, None])
    assert got == [content[5:9], b"sho", content[-7:]]
    found, missing = fs.cat_ranges(["a", "nothing"], [0, 0], [1, 1])
    assert found == content[:1]
    assert isinstance(missing, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["nothing"], 0, 1, on_error="raise")


def test_files_are_opened_for_reading_and_writing(fs: HyperfileFileSystem) -> None:
    with fs.open("a", "w", encoding="utf-8") as text:
        text.write("ein\nzwei\n")
    with fs.open("a", "ab") as file:
        file.write(b"drei\n")
    with fs.open("a", "r", encoding="utf-8") as text:
        assert text.readlines() == ["ein\n", "zwei\n", "drei\n"]
    with fs.open("a", "r+b") as file:
        file.seek(4)
        file.write(b"ZWEI")
    assert fs.cat("a") == b"ein\nZWEI\ndrei\n"
    with pytest.raises(FileExistsError):
        fs.open("a", "xb")
    with pytest.raises(FileNotFoundError):
        fs.open("nothing", "rb")


def test_an_open_file_shows_one_checkpoint_while_the_container_grows(
    fs: HyperfileFileSystem,
) -> None:
    fs.pipe("a", b"old")
    with fs.open("a", "rb", cache_type="none") as file:
        with fs.open("a", "ab") as other:
            other.write(b" and new")
        assert file.read() == b"old"
    assert fs.cat("a") == b"old and new"
    with fs.open("a", "rb", checkpoint=1) as file:
        assert file.read() == b"old"
    assert fs.cat_file("a", checkpoint=1) == b"old"


def test_a_pinned_file_system_stays_where_it_first_looked(
    tmp_path: Path,
) -> None:
    fs = HyperfileFileSystem(fo=f"{tmp_path}/root", target_protocol="file")
    pinned = HyperfileFileSystem(fo=f"{tmp_path}/root", target_protocol="file", pin=True)
    fs.pipe("a", b"old")
    assert pinned.size("a") == 3
    key = pinned.ukey("a")
    with fs.open("a", "ab") as file:
        file.write(b" and new")
    assert (pinned.size("a"), pinned.ukey("a")) == (3, key)
    assert pinned.cat("a") == b"old"
    with pinned.open("a") as file:
        assert file.read() == b"old"
    assert pinned.cat_file("a", checkpoint=2) == fs.cat("a") == b"old and new"
    fs.close()
    pinned.close()
    HyperfileFileSystem.clear_instance_cache()


def test_files_are_copied_moved_and_removed(fs: HyperfileFileSystem, tmp_path: Path) -> None:
    content = random.Random(4).randbytes(30_000)
    local = tmp_path / "local"
    local.write_bytes(content)
    fs.put(str(local), "up/a")
    fs.copy("up/a", "up/b")
    assert fs.cat("up/b") == content
    fs.mv("up/b", "moved")
    assert not fs.exists("up/b")
    fs.get("moved", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == content
    fs.rm("up", recursive=True)
    assert fs.find("") == ["moved"]
    fs.rm_file("moved")
    with pytest.raises(FileNotFoundError):
        fs.rm_file("moved")


def test_the_protocol_is_registered(tmp_path: Path) -> None:
    with fsspec.open(f"hyperfile::file://{tmp_path}/store/a", "wb") as file:
        file.write(b"chained")
    with fsspec.open(f"hyperfile://a::file://{tmp_path}/store", "rb") as file:
        assert file.read() == b"chained"
    fs, path = fsspec.core.url_to_fs("hyperfile://bucket/key")
    assert isinstance(fs, HyperfileFileSystem)
    assert path == "bucket/key"
    with pytest.raises(ValueError, match="secrit"):
        fsspec.filesystem("hyperfile", secrit="x")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: HyperfileFileSystem(fo="x", target_protocol="ftp"),
        lambda: HyperfileFileSystem(client_kwargs={"speed": 3}),
        lambda: HyperfileFileSystem(part_size=3),
    ],
)
def test_options_that_are_none_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="="):
        wrong()


async def test_the_calls_run_on_ones_own_loop(tmp_path: Path) -> None:
    fs = HyperfileFileSystem(
        fo=f"{tmp_path}/root", target_protocol="file", asynchronous=True, skip_instance_cache=True
    )
    await fs._pipe_file("a", b"data")
    assert await fs._cat_file("a", 1, 3) == b"at"
    assert [entry["name"] for entry in await fs._ls("")] == ["a"]
    await fs.aclose()
