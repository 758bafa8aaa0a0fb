"""`wal repair` on the command line: what it says, what it leaves behind, how it ends."""

from __future__ import annotations

import errno
import json
import random
from pathlib import Path

import pytest

from hf_agent.cli.main import main
from hf_agent.clock import SystemClock
from hf_agent.wal import Wal, WalConfig
from hf_agent.wal.disk import OsDisk
from hf_agent.wal.inspect import inspect_wal
from support.wal_tools import later_version, settle

CONFIG = WalConfig(
    file_bytes=32 << 10, max_bytes=1 << 20, max_record_bytes=8 << 10, max_batch_bytes=4 << 10
)
LINES = [b"line %d\n" % number for number in range(5)]


def opened(folder: Path) -> Wal:
    return Wal.open(folder, CONFIG, clock=SystemClock(), rng=random.Random(1))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of one stream with five lines, and a batch behind them."""
    wal = opened(tmp_path / "wal")
    for line in (*LINES, b"last\n"):
        wal.append("app", line)
        settle(wal)
    wal.close()
    return tmp_path / "wal"


def flip(log: Path, line: int, at: int = 50) -> int:
    """Flip a bit of the record of a line; returns the record's offset."""
    found = [found for found in inspect_wal(log) if found.kind == "data"][line]
    with found.file.open("r+b") as file:
        file.seek(found.offset + at)
        (byte,) = file.read(1)
        file.seek(found.offset + at)
        file.write(bytes([byte ^ 1]))
    return found.offset


def image(log: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in log.glob("*.wal")}


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, list[str], list[str]]:
    status = main(["wal", "repair", *args])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def test_a_sound_log_ends_with_0_and_is_left_as_it_is(
    capsys: pytest.CaptureFixture[str], log: Path
) -> None:
    before = image(log)
    said = ["nothing is damaged; nothing was changed"]
    assert run(capsys, str(log)) == (0, said, [])
    assert run(capsys, str(log), "--dry-run") == (0, said, [])
    assert image(log) == before


def test_a_dry_run_tells_of_the_damage_ends_with_1_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], log: Path
) -> None:
    offset = flip(log, 2)
    before = image(log)
    status, out, err = run(capsys, str(log), "--dry-run")
    assert status == 1
    assert out == [
        (
            f"damage: 0000000000000001.wal:{offset}: checksum mismatch in a data record "
            "stream=app position=14 bytes=56"
        ),
        (
            "stream app: bytes 14 to 21 are lost here; where the store does not have them, it gets "
            "zero bytes in their place"
        ),
        "nothing was changed: this was a dry run",
    ]
    assert err == [
        f"hf-agent: the write-ahead log is damaged; without --dry-run it is repaired path={log}"
    ]
    assert image(log) == before
    assert [path.name for path in log.iterdir() if path.is_dir()] == []


def test_a_repair_ends_with_0_and_says_what_was_dropped_and_where_it_is(
    capsys: pytest.CaptureFixture[str], log: Path
) -> None:
    offset = flip(log, 2)
    before = image(log)
    status, out, err = run(capsys, str(log))
    assert (status, err) == (0, [])
    (folder,) = (path for path in log.iterdir() if path.is_dir())
    assert out[-2:] == [
        "kept 5 records with 33 bytes of 1 streams; 7 zero bytes stand for lost ones",
        f"the damaged files, report.json and dropped.bin are in {folder}",
    ]
    assert image(folder) == before
    report = json.loads((folder / "report.json").read_bytes())
    (damage,) = report["damages"]
    assert (damage["file"], damage["offset"], damage["bytes"]) == (
        *("0000000000000001.wal", offset),
        56,
    )
    dropped = (folder / "dropped.bin").read_bytes()
    at = damage["dropped_at"]
    (name,) = before
    whole = dropped[at : at + damage["dropped_bytes"]].ljust(56, b"\0")
    assert whole == before[name][offset : offset + 56]
    assert run(capsys, str(log))[0] == 0
    wal = opened(log)
    plan = wal.plan("app", 0, 100)
    buffer = bytearray(plan.nbytes)
    wal.read_into(plan, memoryview(buffer))
    wal.close()
    assert bytes(buffer) == b"".join([*LINES[:2], bytes(7), *LINES[3:], b"last\n"])


def test_inspect_shows_which_bytes_are_zeros_of_a_repair(
    capsys: pytest.CaptureFixture[str], log: Path
) -> None:
    flip(log, 2)
    assert run(capsys, str(log))[0] == 0
    assert main(["wal", "inspect", str(log), "--records"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "zeros in the place of lost bytes" in line] == [
        line for line in lines if "app at 14," in line
    ]


def test_json_is_the_report(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    flip(log, 2, at=9)
    status, out, _ = run(capsys, str(log), "--json")
    assert status == 0
    report = json.loads("\n".join(out))
    assert report["repaired"]
    assert report["losses"][0]["gaps"] == [[14, 21]]
    assert report == json.loads((Path(report["copy"]) / "report.json").read_bytes())


def test_a_log_that_an_agent_has_ends_with_75(
    capsys: pytest.CaptureFixture[str], log: Path
) -> None:
    flip(log, 2)
    before = image(log)
    lock = OsDisk()
    fd = lock.open(log / "lock", 2)
    assert lock.lock(fd)
    try:
        for args in ([str(log)], [str(log), "--dry-run"]):
            status, out, (line,) = run(capsys, *args)
            assert (status, out) == (75, [])
            assert line.startswith("hf-agent: the write-ahead log is held by ")
    finally:
        lock.close(fd)
    assert image(log) == before


def test_what_is_no_log_or_of_a_later_version_ends_with_1(
    capsys: pytest.CaptureFixture[str], log: Path, tmp_path: Path
) -> None:
    status, out, (line,) = run(capsys, str(tmp_path / "none"))
    assert (status, out) == (1, [])
    assert "there is no such directory" in line
    (path,) = log.glob("*.wal")
    with path.open("r+b") as file:
        head = file.read(64)
        file.seek(0)
        file.write(later_version(head, 7))
    before = image(log)
    status, out, (line,) = run(capsys, str(log))
    assert (status, out) == (1, [])
    assert "unknown format version 7" in line
    assert image(log) == before


@pytest.mark.parametrize("call", ["fsync", "fallocate", "rename"])
def test_a_disk_that_fails_ends_with_74_and_the_log_is_as_it_was(
    capsys: pytest.CaptureFixture[str],
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    flip(log, 2)
    before = image(log)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(OsDisk, call, fail)
        status, out, (line,) = run(capsys, str(log))
    assert (status, out) == (74, [])
    assert "input/output error" in line
    assert "call it again" in line
    assert image(log) == before
    assert run(capsys, str(log))[0] == 0
    opened(log).close()
