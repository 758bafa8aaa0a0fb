"""Containers as a file system: fsspec's calls mean what its users expect."""

from __future__ import annotations

import errno
import gc
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.asyn import sync

from hf_agent.fs import HyperfileFileSystem
from hf_agent.hyperfile import ChecksumError
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
                "config_kwargs": {"s3": {"addressing_style": "path"}},
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


def test_what_is_pinned_goes_with_a_pickle(tmp_path: Path) -> None:
    fs = HyperfileFileSystem(fo=f"{tmp_path}/root", target_protocol="file")
    pinned = HyperfileFileSystem(fo=f"{tmp_path}/root", target_protocol="file", pin=True)
    fs.pipe("a", b"old")
    assert pinned.cat("a") == b"old"
    packed = pickle.dumps(pinned)
    with fs.open("a", "ab") as file:
        file.write(b" and new")
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).cat('a').decode())"
    done = subprocess.run(
        [sys.executable, "-c", script], input=packed, capture_output=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (b"old\n", b"")
    given = HyperfileFileSystem(fo=f"{tmp_path}/root", target_protocol="file", pin={"a": 1})
    assert (given.size("a"), given.cat("a")) == (3, b"old")
    for each in (fs, pinned, given):
        each.close()
    HyperfileFileSystem.clear_instance_cache()


def test_a_block_that_raises_leaves_the_container_as_it_was(fs: HyperfileFileSystem) -> None:
    fs.pipe("a", b"kept")
    for mode in ("wb", "ab", "r+b", "w+b"):
        with pytest.raises(KeyError), fs.open("a", mode) as file:
            file.write(b"lost")
            raise KeyError
    assert fs.cat("a") == b"kept"
    assert fs.info("a")["checkpoint"] == 1


def test_a_plus_reads_what_the_mode_before_it_writes(fs: HyperfileFileSystem) -> None:
    with fs.open("a", "w+b") as file:
        file.write(b"one")
        file.seek(0)
        assert file.read() == b"one"
    with fs.open("a", "a+b") as file:
        file.write(b" two")
        file.seek(0)
        assert file.read() == b"one two"
    for mode in ("wz", "rw", "z"):
        with pytest.raises(ValueError, match="no such mode"):
            fs.open("a", mode + "b")
    fs.touch("empty")
    assert fs.cat("empty") == b""


def test_a_transaction_makes_all_of_its_checkpoints_or_none(fs: HyperfileFileSystem) -> None:
    with fs.transaction:
        for name in ("a", "b"):
            with fs.open(name, "wb") as file:
                file.write(b"data of " + name.encode())
        assert fs.info("a")["size"] == fs.info("b")["size"] == 0
    assert fs.cat(["a", "b"]) == {"a": b"data of a", "b": b"data of b"}
    with pytest.raises(KeyError), fs.transaction:
        with fs.open("a", "ab") as file:
            file.write(b", and more")
        raise KeyError
    assert fs.cat("a") == b"data of a"


def test_errors_are_those_of_a_file_system(fs: HyperfileFileSystem, tmp_path: Path) -> None:
    fs.pipe("a", b"data" * 2000)
    fs.pipe("folder/b", b"data")
    with pytest.raises(IsADirectoryError):
        fs.rm("folder")
    for call in (
        lambda: fs.open("nothing"),
        lambda: fs.open("nothing", "r+b"),
        lambda: fs.cat_file("nothing"),
        lambda: fs.info("nothing"),
        lambda: fs.ls("nothing"),
        lambda: fs.ukey("nothing"),
        lambda: fs.rm("nothing"),
        lambda: fs.cp_file("nothing", "b"),
        lambda: fs.get_file("nothing", str(tmp_path / "x")),
        lambda: fs.open("a", checkpoint=99),
        lambda: fs.open("a", at_time=5.0),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            call()
        assert caught.value.errno == errno.ENOENT
    with pytest.raises(FileExistsError):
        fs.pipe_file("a", b"x", mode="create")
    assert not (tmp_path / "x").exists()


def test_damage_is_an_input_output_error_and_an_old_layout_is_not_written(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden"
    shutil.copytree(golden / "legacy-02", tmp_path / "root" / "old")
    fs = HyperfileFileSystem(fo=f"{tmp_path}/root", target_protocol="file", block_size=4096)
    assert len(fs.cat("old")) == fs.size("old")
    with pytest.raises(PermissionError, match=r"0\.2"):
        fs.open("old", "ab")
    fs.pipe("a", b"x" * 50_000)
    for path in (tmp_path / "root" / "a").rglob("*"):
        if path.is_file() and path.stat().st_size > 50_000:
            data = bytearray(path.read_bytes())
            data[data.index(b"x" * 4096) + 5000] = 0
            path.chmod(0o600)
            path.write_bytes(data)
    reads: tuple[Callable[[], object], ...] = (
        lambda: fs.cat("a"),
        lambda: fs.open("a").read(),
        lambda: fs.cat_file("a", 4096),
    )
    for call in reads:
        with pytest.raises(OSError, match="checksum") as caught:
            call()
        assert caught.value.errno == errno.EIO
        assert isinstance(caught.value.__cause__, ChecksumError)
    (damaged,) = fs.cat_ranges(["a"], [4096], [8192])
    assert isinstance(damaged, OSError)
    fs.close()
    HyperfileFileSystem.clear_instance_cache()


def test_a_store_that_refuses_is_a_permission_error(moto_s3: MotoS3) -> None:
    fs = HyperfileFileSystem(
        anon=True,
        endpoint_url=moto_s3.endpoint_url,
        addressing="path",
        client_kwargs={"region_name": "us-east-1"},
        skip_instance_cache=True,
    )
    calls: tuple[Callable[[], object], ...] = (
        lambda: fs.cat("no-such-bucket/a"),
        lambda: fs.ls("no-such-bucket"),
    )
    for call in calls:
        with pytest.raises(PermissionError, match="no-such-bucket"):
            call()
    with pytest.raises(FileNotFoundError, match="buckets are not listed"):
        fs.ls("")
    fs.close()


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


def test_a_file_that_nobody_closed_may_be_collected_on_the_loop(fs: HyperfileFileSystem) -> None:
    fs.pipe("a", b"content")
    file = fs.open("a", "rb")
    assert file.read() == b"content"

    async def collect() -> None:
        nonlocal file
        del file  # what it would raise here is a failure of the test
        gc.collect()

    sync(fs.loop, collect)


def test_a_version_whose_objects_were_removed_is_estale_and_a_lost_object_is_eio(
    tmp_path: Path,
) -> None:
    fs = HyperfileFileSystem(fo=f"{tmp_path}/root", target_protocol="file", block_size=4096)
    old, new = random.Random(1).randbytes(500_000), random.Random(2).randbytes(500_000)
    fs.pipe_file("log", old)
    first = next((tmp_path / "root" / "log").glob("0000000001*"))
    with fs.open("log", "rb", cache_type="none") as file:
        with fs.open("log", "wb") as writer:
            writer.write(new)
        kept = first.read_bytes()
        first.unlink()
        file.seek(400_000)
        with pytest.raises(OSError, match="open it again") as stale:
            file.read(10)
    assert stale.value.errno == errno.ESTALE
    assert fs.cat_file("log", 400_000, 400_010) == new[400_000:400_010]
    fs.close()
    HyperfileFileSystem.clear_instance_cache()
    first.write_bytes(kept)
    # What the newest version needs is damage.
    fs = HyperfileFileSystem(fo=f"{tmp_path}/root", target_protocol="file", block_size=4096)
    with fs.open("log", "rb", cache_type="none") as file:
        next((tmp_path / "root" / "log").glob("0000000002*")).unlink()
        file.seek(400_000)
        with pytest.raises(OSError, match="damaged") as damaged:
            file.read(10)
    assert damaged.value.errno == errno.EIO
    fs.close()
    HyperfileFileSystem.clear_instance_cache()
