"""`write`, `truncate`, `zero`, `rollback`, `diff`, `cp` and `rm`, in this process."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from hf_agent.cli.main import main

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store/data"


class Shell:
    """Runs commands and gives what they print."""

    def __init__(self, captured: pytest.CaptureFixture[bytes]) -> None:
        self._captured = captured

    def __call__(self, *args: str, status: int = 0) -> bytes:
        got = main(list(args))
        out, err = self._captured.readouterr()
        assert (got, err) == (status, b""), err
        return out

    def error(self, *args: str, status: int) -> str:
        got = main(list(args))
        out, err = self._captured.readouterr()
        assert (got, out) == (status, b""), err
        (line,) = err.decode().splitlines()
        return line.removeprefix("hf-agent: ")


@pytest.fixture
def shell(capfdbinary: pytest.CaptureFixture[bytes]) -> Shell:
    return Shell(capfdbinary)


def file_of(folder: Path, content: bytes) -> str:
    path = folder / f"input-{len(list(folder.iterdir()))}"
    path.write_bytes(content)
    return str(path)


def test_write_replaces_the_content_or_a_part_of_it(shell: Shell, uri: str, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(300_000)
    said = shell("write", uri, file_of(tmp_path, content))
    assert said.startswith(b"checkpoint 1: 300000 bytes, ")
    assert shell("cat", uri) == content
    made = json.loads(shell("write", uri, file_of(tmp_path, b"xyz"), "--offset", "1KiB", "--json"))
    assert (made["checkpoint"], made["size"]) == (2, 300_000)
    assert shell("cat", uri) == content[:1024] + b"xyz" + content[1027:]
    shell("write", uri, file_of(tmp_path, b"short"))
    assert shell("cat", uri) == b"short"
    assert shell("cat", uri, "--at", "1") == content


def test_write_with_an_offset_creates_too(shell: Shell, uri: str, tmp_path: Path) -> None:
    shell("write", uri, file_of(tmp_path, b"end"), "--offset", "5")
    assert shell("cat", uri) == bytes(5) + b"end"


def test_truncate_and_zero_are_one_checkpoint_each(shell: Shell, uri: str, tmp_path: Path) -> None:
    shell("write", uri, file_of(tmp_path, b"x" * 10_000))
    shell("truncate", uri, "20000")
    assert shell("cat", uri) == b"x" * 10_000 + bytes(10_000)
    shell("zero", uri, "5000:-12000")
    assert shell("cat", uri) == b"x" * 5000 + bytes(3000) + b"x" * 2000 + bytes(10_000)
    shell("zero", uri, "-20000:1000")
    assert shell("cat", uri, "--range", ":1001") == bytes(1000) + b"x"
    shell("truncate", uri, "1")
    assert shell("cat", uri) == bytes(1)
    assert [row["checkpoint"] for row in json.loads(shell("log", uri, "--json"))] == [5, 4, 3, 2, 1]


def test_rollback_is_a_new_checkpoint(shell: Shell, uri: str, tmp_path: Path) -> None:
    shell("write", uri, file_of(tmp_path, b"first"))
    shell("write", uri, file_of(tmp_path, b"second"))
    assert shell("rollback", uri, "1").startswith(b"checkpoint 3: 5 bytes")
    assert shell("cat", uri) == b"first"
    assert shell("cat", uri, "--at", "2") == b"second"
    assert "checkpoint=9" in shell.error("rollback", uri, "9", status=1)


def test_diff_names_the_ranges_that_changed(shell: Shell, uri: str, tmp_path: Path) -> None:
    shell("write", uri, file_of(tmp_path, b"x" * 1_000_000))
    shell("write", uri, file_of(tmp_path, b"y"), "--offset", "500000")
    (changed,) = json.loads(shell("diff", uri, "1", "2", "--json", status=1))
    assert changed["start"] <= 500_000 < changed["end"]
    assert changed["end"] - changed["start"] == 65536
    assert b"65536" in shell("diff", uri, "1", "2", status=1)
    assert json.loads(shell("diff", uri, "1", "1", "--json")) == []
    assert json.loads(shell("diff", uri, "1", "--json", status=1)) == [changed]
    assert json.loads(shell("diff", uri, "2", "--json")) == []
    assert json.loads(shell("diff", uri, "0", "1", "--json", status=1)) == [
        {"start": 0, "end": 1_000_000}
    ]


def test_cp_copies_the_newest_content_one_checkpoint_or_all(
    shell: Shell, uri: str, tmp_path: Path
) -> None:
    shell("write", uri, file_of(tmp_path, b"one"))
    shell("write", uri, file_of(tmp_path, b"two"))
    for name, options, content in (
        ("newest", (), b"two"),
        ("old", ("--at", "1"), b"one"),
        ("all", ("--history",), b"two"),
    ):
        target = f"file://{tmp_path}/other/{name}"
        shell("cp", uri, target, *options)
        assert shell("cat", target) == content
    assert shell("cat", f"file://{tmp_path}/other/all", "--at", "1") == b"one"
    assert "already" in shell.error("cp", uri, f"file://{tmp_path}/other/all", status=1)
    nothing = f"file://{tmp_path}/nothing"
    assert shell.error("cp", nothing, f"{nothing}2", status=1).endswith(f"uri={nothing}")
    then = f"file://{tmp_path}/other/then"
    shell("cp", uri, then, "--at-time", "@4102444800")
    assert shell("cat", then) == b"two"
    assert "that old" in shell.error("cp", uri, f"{then}2", "--at-time", "@0", status=1)
    assert "exclude" in shell.error("cp", uri, uri, "--at", "1", "--history", status=64)


def test_rm_removes_all_of_a_container(shell: Shell, uri: str, tmp_path: Path) -> None:
    shell("write", uri, file_of(tmp_path, b"data"))
    shell("rm", uri)
    assert "no container here" in shell.error("cat", uri, status=1)
    assert [path for path in (tmp_path / "store").rglob("*") if path.stat().st_size == 160] == []
    assert "no container here" in shell.error("rm", uri, status=1)
    shell("rm", "-f", uri)


def test_edits_of_what_is_not_there_or_not_writable_are_refused(
    shell: Shell, uri: str, tmp_path: Path
) -> None:
    assert "no container here" in shell.error("truncate", uri, "5", status=1)
    assert "no container here" in shell.error("zero", uri, "0:5", status=1)
    assert "no container here" in shell.error("rollback", uri, "1", status=1)
    assert "no size" in shell.error("truncate", uri, "many", status=64)
    legacy = f"file://{GOLDEN}/legacy-02"
    assert "0.2" in shell.error("write", legacy, file_of(tmp_path, b"x"), status=1)
