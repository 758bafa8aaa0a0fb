"""The blocking files are proper raw files: the standard library's layers work on them."""

from __future__ import annotations

import errno
import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hf_agent import hyperfile
from hf_agent.cli.main import main
from hf_agent.hyperfile.blocking.loop_thread import loop_thread
from support.moto_s3 import MotoS3, moto_s3

__all__ = ["moto_s3"]


@pytest.fixture(params=["directory", "s3"])
def uri(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Of a container that is not there yet, on each kind of store."""
    if request.param == "directory":
        yield f"file://{tmp_path}/store/data"
        return
    server: MotoS3 = request.getfixturevalue("moto_s3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    yield f"s3://{server.make_bucket()}/data"


def test_what_is_written_is_read_back(uri: str) -> None:
    with hyperfile.open(uri, "w") as file:
        assert file.write(b"hello ") == 6
        assert file.write(b"world") == 5
        assert file.tell() == 11
    with hyperfile.open(uri) as file:
        assert file.read() == b"hello world"
        assert file.read() == b""
        assert file.seek(-5, os.SEEK_END) == 6
        assert file.read(3) == b"wor"
        assert file.seek(1, os.SEEK_CUR) == 10
        assert file.read(100) == b"d"


def test_a_path_is_taken_as_a_local_one(tmp_path: Path) -> None:
    with hyperfile.open(tmp_path / "store" / "data", "x") as file:
        file.write(b"data")
    with hyperfile.open(f"{tmp_path}/store/data", "rb") as file:
        assert file.readall() == b"data"


def test_modes_mean_what_they_mean_to_open(uri: str) -> None:
    with pytest.raises(FileNotFoundError):
        hyperfile.open(uri, "r")
    with pytest.raises(FileNotFoundError):
        hyperfile.open(uri, "r+")
    with hyperfile.open(uri, "a") as file:
        file.write(b"one")
        with pytest.raises(io.UnsupportedOperation):
            file.read()
    with pytest.raises(FileExistsError):
        hyperfile.open(uri, "x")
    with hyperfile.open(uri, "a") as file:
        file.seek(0)
        file.write(b"two")
    with hyperfile.open(uri, "r+b") as file:
        assert file.read(2) == b"on"
        file.write(b"E")
        file.seek(0)
        assert file.read() == b"onEtwo"
    with hyperfile.open(uri, "w") as file:
        file.write(b"!")
    with hyperfile.open(uri) as file:
        assert file.read() == b"!"
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"no")
        with pytest.raises(io.UnsupportedOperation):
            file.truncate(0)
    for mode in ("", "b", "rw", "rt", "z", "wz", "++", "r++"):
        with pytest.raises(ValueError, match="mode"):
            hyperfile.open(uri, mode)


def test_a_plus_reads_what_the_mode_before_it_writes(uri: str) -> None:
    with hyperfile.open(uri, "x+") as file:
        file.write(b"one")
        file.seek(0)
        assert file.read() == b"one"
    with hyperfile.open(uri, "a+b") as file:
        assert file.tell() == 3
        file.write(b" two")
        file.seek(0)
        assert file.read() == b"one two"
    with hyperfile.open(uri, "w+") as file:
        assert file.read() == b""
        file.write(b"three")
        file.seek(2)
        assert file.read() == b"ree"


@pytest.mark.parametrize("mode", ["r", "r+", "w", "w+", "a", "a+"])
def test_a_mode_allows_what_it_allows_with_a_local_file(
    uri: str, tmp_path: Path, mode: str
) -> None:
    """The same calls, on a container and on a file of the operating system."""
    local = tmp_path / "local"
    local.write_bytes(b"0123456789")
    with hyperfile.open(uri, "x") as file:
        file.write(b"0123456789")

    def outcome(call: Callable[[], object]) -> object:
        try:
            return call()
        except OSError:  # `io.UnsupportedOperation` is one
            return "refused"

    def run(file: io.RawIOBase) -> list[object]:
        buffer = bytearray(4)
        return [
            *(file.readable(), file.writable(), file.seekable(), file.isatty()),
            outcome(file.tell),
            *(outcome(lambda: file.seek(3)), outcome(lambda: file.read(2)), file.tell()),
            *(outcome(lambda: file.readinto(buffer)), bytes(buffer)),
            *(outcome(lambda: file.write(b"XYZ")), file.tell()),
            *(outcome(lambda: file.seek(-2, 2)), outcome(file.readall), file.tell()),
            *(outcome(lambda: file.seek(20)), outcome(file.readall), outcome(file.read)),
            *(outcome(lambda: file.write(b"!")), file.tell()),
            *(outcome(lambda: file.truncate(15)), file.tell()),
            *(outcome(lambda: file.seek(6)), outcome(file.truncate), file.tell()),
            *(outcome(lambda: file.seek(0)), outcome(file.readlines)),
            *(outcome(lambda: file.seek(-1)), outcome(lambda: file.writelines([b"a", b"b"]))),
            *(outcome(lambda: file.write(memoryview(b"1234").cast("I"))), file.tell()),
        ]

    with io.FileIO(local, mode) as expected, hyperfile.open(uri, mode) as found:
        assert run(found) == run(expected)
        if mode != "w+":  # which FileIO shows as rb+
            assert found.mode == expected.mode
    with hyperfile.open(uri) as file:
        assert file.read() == local.read_bytes()


def test_attributes_are_set_with_the_next_checkpoint(uri: str) -> None:
    with hyperfile.open(uri, "x") as file:
        file.set_attributes(mode=0o640, uid=12, gid=13, atime_ns=14, mtime_ns=15)
        file.write(b"data")
        with pytest.raises(ValueError, match="uid"):
            file.set_attributes(uid=-1)
        with pytest.raises(TypeError):
            file.set_attributes(owner="me")
    with hyperfile.open(uri) as file:
        found = file.stat()
        with pytest.raises(io.UnsupportedOperation):
            file.set_attributes(mode=0o600)
    assert (found.mode, found.uid, found.gid) == (0o100640, 12, 13)
    assert (found.atime_ns, found.mtime_ns, found.size) == (14, 15, 4)
    assert found.ctime_ns > 15


def test_what_was_not_flushed_can_be_discarded(uri: str) -> None:
    with hyperfile.open(uri, "w+") as file:
        file.write(b"kept")
        made = file.checkpoint_now()
        assert made is not None
        assert made.size == 4
        file.write(b" and lost")
        file.truncate(2)
        file.discard()
        assert file.size == 4
        assert file.pread(0, 10) == b"kept"
        assert file.checkpoint_now() is None
    with hyperfile.open(uri) as file:
        assert file.read() == b"kept"
        with pytest.raises(io.UnsupportedOperation):
            file.discard()


def test_every_flush_is_a_version_to_go_back_to(uri: str) -> None:
    with hyperfile.open(uri, "w") as file:
        file.write(b"first")
        file.flush()
        first = file.checkpoint
        file.seek(0)
        file.write(b"other")
    with hyperfile.open(uri, checkpoint=first) as file:
        assert file.read() == b"first"
    with hyperfile.open(uri) as file:
        assert file.read() == b"other"
        assert file.checkpoint == first + 1


def test_an_exception_leaves_the_store_as_it_was(uri: str) -> None:
    with hyperfile.open(uri, "w") as file:
        file.write(b"kept")
    with pytest.raises(KeyError), hyperfile.open(uri, "r+") as file:
        file.write(b"lost")
        raise KeyError
    with hyperfile.open(uri) as file:
        assert file.read() == b"kept"


def test_a_closed_file_says_so(uri: str) -> None:
    file = hyperfile.open(uri, "w")
    file.close()
    file.close()
    assert file.closed
    calls = (file.read, file.tell, file.flush, file.stat, file.readable, file.refresh)
    for call in (*calls, lambda: file.write(b""), lambda: file.pread(0, 1), lambda: file.size):
        with pytest.raises(ValueError, match="closed"):
            call()
    with pytest.raises(ValueError, match="closed"):
        file.__enter__()


def test_positions_out_of_range_are_refused(uri: str) -> None:
    with hyperfile.open(uri, "w") as file:
        with pytest.raises(OSError, match="below zero") as caught:
            file.seek(-1)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 17)
        with pytest.raises((ValueError, OSError)):
            file.pwrite(-1, b"x")
        with pytest.raises((ValueError, OSError)):
            file.truncate(-1)


def test_holes_are_found_as_lseek_finds_them(uri: str) -> None:
    with hyperfile.open(uri, "w", block_size=4096) as file:
        file.pwrite(8192, b"x" * 4096)
        file.truncate(40960)
    with hyperfile.open(uri) as file:
        assert file.seek(0, os.SEEK_DATA) == 8192
        assert file.seek(0, os.SEEK_HOLE) == 0
        assert file.seek(8192, os.SEEK_HOLE) == 12288
        with pytest.raises(OSError) as caught:
            file.seek(12288, os.SEEK_DATA)
        assert caught.value.errno == errno.ENXIO


def test_buffers_and_text_work_on_it(uri: str) -> None:
    lines = [f"line {number} – ü\n" for number in range(5000)]
    with io.TextIOWrapper(io.BufferedWriter(hyperfile.open(uri, "w")), encoding="utf-8") as text:
        text.writelines(lines)
    with io.TextIOWrapper(io.BufferedReader(hyperfile.open(uri)), encoding="utf-8") as text:
        assert list(text) == lines
    with io.BufferedRandom(hyperfile.open(uri, "r+")) as both:
        both.seek(5)
        both.write(b"X")
        both.seek(0)
        assert both.read(7) == b"line X "
    with io.TextIOWrapper(io.BufferedRandom(hyperfile.open(uri, "r+")), encoding="utf-8") as text:
        assert text.readline() == "line X – ü\n"
        text.seek(0, io.SEEK_END)
        text.write("last\n")
        text.seek(0)
        assert text.readlines()[1:] == [*lines[1:], "last\n"]
    with io.BufferedWriter(hyperfile.open(uri, "a")) as end:
        at = end.tell()
        end.write(b"more")
        assert end.tell() == at + 4


def test_a_buffer_and_the_model_of_it_agree_on_random_calls(uri: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with (
        open(tmp_path / "local", "w+b") as expected,
        io.BufferedRandom(hyperfile.open(uri, "w+", block_size=4096), 512) as found,
    ):
        for _ in range(300):
            call, number = rng.choice(("write", "read", "seek", "truncate")), rng.randrange(20_000)
            if call == "write":
                data = rng.randbytes(number // 10)
                assert found.write(data) == expected.write(data)
            elif call == "read":
                assert found.read(number) == expected.read(number)
            elif call == "seek":
                assert found.seek(number) == expected.seek(number)
            else:
                assert found.truncate(number) == expected.truncate(number)
        expected.flush()
    with hyperfile.open(uri) as raw:
        assert raw.read() == (tmp_path / "local").read_bytes()


def test_archives_work_on_it(uri: str) -> None:
    content = random.Random(1).randbytes(300_000)
    with hyperfile.open(uri, "w") as raw, gzip.GzipFile(fileobj=raw, mode="wb") as packed:
        packed.write(content)
    with hyperfile.open(uri) as raw, gzip.GzipFile(fileobj=raw) as packed:
        assert packed.read() == content
    with hyperfile.open(uri, "w") as raw, zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("a", content)
        archive.writestr("b", b"b")
    with hyperfile.open(uri) as raw, zipfile.ZipFile(raw) as archive:
        assert archive.testzip() is None
        assert archive.read("a") == content
    with hyperfile.open(uri, "w") as raw, tarfile.open(fileobj=raw, mode="w") as tar:
        member = tarfile.TarInfo("a")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    with hyperfile.open(uri) as raw, tarfile.open(fileobj=raw) as tar:
        found = tar.extractfile("a")
        assert found is not None
        assert found.read() == content


def test_archives_are_added_to_where_they_are(uri: str) -> None:
    content = random.Random(2).randbytes(100_000)
    for number in range(2):
        with hyperfile.open(uri, "a") as raw, gzip.open(raw, "ab") as packed:
            packed.write(b"%d" % number + content)
    with hyperfile.open(uri) as raw, gzip.open(raw) as packed:
        assert packed.read() == b"0" + content + b"1" + content
    with hyperfile.open(uri, "w") as raw, zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("a", content)
    with hyperfile.open(uri, "r+") as raw, zipfile.ZipFile(raw, "a") as archive:
        archive.writestr("b", content)
    with hyperfile.open(uri) as raw, zipfile.ZipFile(raw) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a", "b"]
    with hyperfile.open(uri, "w") as raw, tarfile.open(fileobj=raw, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("first"))
    with hyperfile.open(uri) as raw, tarfile.open(fileobj=raw) as tar:
        assert tar.getnames() == ["first"]
    with hyperfile.open(uri, "w") as raw, tarfile.open(fileobj=raw, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("first"))
    with hyperfile.open(uri, "r+") as raw, tarfile.open(fileobj=raw, mode="a") as tar:
        tar.addfile(tarfile.TarInfo("second"))
    with hyperfile.open(uri) as raw, tarfile.open(fileobj=raw) as tar:
        assert tar.getnames() == ["first", "second"]


def test_threads_may_share_a_file(uri: str) -> None:
    content = random.Random(2).randbytes(1 << 20)
    with hyperfile.open(uri, "w", block_size=4096) as file:
        file.write(content)
    wrong: list[int] = []
    with hyperfile.open(uri) as file:

        def read(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(50):
                offset, length = rng.randrange(1 << 20), rng.randrange(20_000)
                if file.pread(offset, length) != content[offset : offset + length]:
                    wrong.append(offset)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_forked_child_reads_too(uri: str) -> None:
    with hyperfile.open(uri, "w") as file:
        file.write(b"data")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            with hyperfile.open(uri) as file:
                os.write(writer, file.read())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"data"
    assert os.waitpid(child, 0)[1] == 0


def test_a_blocking_call_on_its_own_loop_is_an_error_and_no_deadlock() -> None:
    thread = loop_thread()

    async def nested() -> None:
        thread.run(nested())

    with pytest.raises(RuntimeError, match="asynchronous"):
        thread.run(nested())


def test_an_unknown_option_names_the_known_ones(uri: str) -> None:
    with pytest.raises(ValueError, match=r"block_sise.*block_size"):
        hyperfile.open(uri, "w", block_sise=4096)


def test_a_file_that_was_never_closed_does_not_hold_up_the_end_of_the_process(uri: str) -> None:
    script = (
        "import sys; from hf_agent import hyperfile; import io\n"
        "raw = hyperfile.open(sys.argv[1], 'w'); raw.write(b'x')\n"
        "buffered = io.BufferedWriter(hyperfile.open(sys.argv[1] + '2', 'w'))\n"
        "buffered.write(b'y')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, uri], capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (0, 120), done.stderr


@pytest.mark.parametrize("spelling", ["file:{}", "file://{}", "{}", "file:./log", "./log", "log"])
def test_every_spelling_names_the_same_container_here_and_on_the_command_line(
    tmp_path: Path,
    spelling: str,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.chdir(tmp_path)
    name = spelling.format(tmp_path / "log")
    with hyperfile.open(name, "x") as file:
        file.write(b"content")
    assert [each.name for each in tmp_path.iterdir()] == ["log"]
    with hyperfile.open(tmp_path / "log") as file:
        assert file.read() == b"content"
    if name.startswith("file:"):
        assert main(["cat", name]) == 0
        assert capfdbinary.readouterr().out == b"content"


def test_the_size_of_parts_is_that_of_the_file(tmp_path: Path) -> None:
    """An upload's parts have the same name, and at least 5 MiB."""
    with hyperfile.open(tmp_path / "log", "x", block_size=4096, part_bytes=1 << 20) as file:
        file.write(bytes([1]) * (3 << 20))
    assert len(list((tmp_path / "log").iterdir())) >= 4
