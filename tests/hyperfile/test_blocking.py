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
from pathlib import Path

import pytest

from hf_agent import hyperfile
from hf_agent.hyperfile.blocking.loop_thread import loop_thread


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store/data"


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
    for mode in ("", "b", "rw", "rt", "z"):
        with pytest.raises(ValueError, match="mode"):
            hyperfile.open(uri, mode)


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
        if call == file.flush:
            continue
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
