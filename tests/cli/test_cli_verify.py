"""`verify`, and `cat` with and without checksums, in this process and on a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import random
import subprocess
import sys
from pathlib import Path

import pytest

from hf_agent import hyperfile
from hf_agent.cli.main import main
from hf_agent.clock import SystemClock
from hf_agent.hyperfile import Appender
from hf_agent.store.directory import DirectoryStore

GOLDEN = Path(__file__).parents[1] / "golden"
CONTENT = random.Random(3).randbytes(40_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a container with two checkpoints, of 30,000 and of 10,000 bytes."""
    asyncio.run(_write(tmp_path))
    return tmp_path / "app" / "log"


async def _write(root: Path) -> None:
    clock, rng = SystemClock(), random.Random(4)
    store = DirectoryStore(root, clock=clock, rng=rng)
    inode = Appender.prepare_inode(clock.time(), 4096)
    appender = await Appender.create(
        store, "app/log", inode, clock=clock, rng=rng, writer_id=bytes(16), mark="m"
    )
    for start, end in ((0, 30_000), (30_000, 40_000)):
        build = await appender.begin(end - start)
        build.body[:] = CONTENT[start:end]
        await appender.commit(build, position=end)
    await store.close()


def damage(folder: Path, position: int) -> int:
    """Flip a bit of the content at `position`; returns where its block begins in its object."""
    path = folder / "0000000001.0"
    body = bytearray(path.read_bytes())
    at = body.index(CONTENT[position : position + 64])
    body[at] ^= 16
    path.write_bytes(body)
    return at // 4096 * 4096


def run(capfdbinary: pytest.CaptureFixture[bytes], *args: str) -> tuple[int, bytes, str]:
    status = main(list(args))
    out, err = capfdbinary.readouterr()
    return status, out, err.decode()


def test_a_sound_container_gets_one_line(
    capfdbinary: pytest.CaptureFixture[bytes], folder: Path
) -> None:
    status, out, err = run(capfdbinary, "verify", f"file:{folder}")
    size = sum((folder / f"000000000{number}.0").stat().st_size for number in (1, 2))
    assert (status, err) == (0, "")
    assert out.decode() == (
        f"2 objects of 2 checkpoints, {size} bytes, 2 with checksums: 0 errors, 0 notes\n"
    )


def test_damage_is_listed_and_the_status_is_1(
    capfdbinary: pytest.CaptureFixture[bytes], folder: Path
) -> None:
    offset = damage(folder, 9000)
    status, out, err = run(capfdbinary, "verify", f"file:{folder}")
    assert status == 1
    assert err == f"hf-agent: the container is damaged: 1 error uri=file:{folder}\n"
    lines = out.decode().splitlines()
    assert lines[0] == (
        f"error  log/0000000001.0  data block 2 at {offset}: the checksum does not match; "
        "bytes 8192:12288 cannot be read"
    )
    assert lines[1].endswith("1 error, 0 notes")


def test_json_has_all_of_it(capfdbinary: pytest.CaptureFixture[bytes], folder: Path) -> None:
    offset = damage(folder, 9000)
    (folder / "stray.txt").write_text("x")
    status, out, _ = run(capfdbinary, "verify", f"file:{folder}", "--json")
    found = json.loads(out)
    assert status == 1
    assert found["sound"] is False
    assert (found["checkpoint"], found["size"], found["objects"]) == (2, 40_000, 2)
    assert found["errors"] == [
        {
            "severity": "error",
            "object": "log/0000000001.0",
            "offset": offset,
            "what": "data block 2",
            "problem": "the checksum does not match",
            "affected": {"checkpoint": None, "ranges": [[8192, 12288]], "nbytes": 4096},
        }
    ]
    assert [note["object"] for note in found["notes"]] == ["log/stray.txt"]


@pytest.mark.parametrize("name", ["parted", "stream-parts", "micro-group", "legacy-02", "empty"])
def test_containers_without_checksums_are_verified_too(
    capfdbinary: pytest.CaptureFixture[bytes], name: str
) -> None:
    status, out, err = run(capfdbinary, "verify", f"file:{GOLDEN}/{name}")
    assert (status, err) == (0, "")
    assert b", 0 with checksums: 0 errors, 0 notes" in out


def test_what_is_no_container_is_an_error(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    status, out, err = run(capfdbinary, "verify", f"file:{tmp_path}/nothing")
    assert (status, out) == (1, b"")
    assert "no container here" in err


def test_cat_does_not_give_out_a_damaged_block_unless_it_is_told_to(
    capfdbinary: pytest.CaptureFixture[bytes], folder: Path
) -> None:
    damage(folder, 9000)
    status, out, err = run(capfdbinary, "cat", f"file:{folder}", "--range", "9000:9010")
    assert (status, out) == (1, b"")
    assert "the checksum of data block 2 does not match" in err
    assert "object=log/0000000001.0" in err
    status, out, err = run(
        capfdbinary, "cat", f"file:{folder}", "--range", "9000:9010", "--ignore-checksums"
    )
    assert (status, err) == (0, "")
    assert out == bytes([CONTENT[9000] ^ 16]) + CONTENT[9001:9010]
    status, out, _ = run(capfdbinary, "cat", f"file:{folder}", "--range", "12288:")
    assert (status, out) == (0, CONTENT[12288:])


def test_progress_is_shown_on_a_terminal_alone(folder: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "hf_agent", "verify", f"file:{folder}"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=60,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        )
        os.close(theirs)
        shown = os.read(ours, 1 << 16)
    finally:
        os.close(ours)
    assert done.returncode == 0
    assert done.stdout.startswith(b"2 objects of 2 checkpoints")
    assert b"verify" in shown


def test_more_objects_than_the_limit_are_told_in_a_note_and_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hyperfile.open(tmp_path / "log", "x", block_size=4096) as file:
        for _ in range(5):
            file.write(b"x" * 4096)
            file.flush()
    assert main(["verify", f"file:{tmp_path}/log", "--max-objects", "2"]) == 0
    (note, _) = capsys.readouterr().out.splitlines()
    assert note.startswith("note ")
    assert "objects of checkpoints up to 3 were not checked for rules" in note
    assert "`verify --max-objects N` checks more" in note
    assert main(["verify", f"file:{tmp_path}/log"]) == 0
    assert "note " not in capsys.readouterr().out
