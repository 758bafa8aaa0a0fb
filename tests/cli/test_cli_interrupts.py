"""One Ctrl-C ends a command with 130, and a container that it was changing is what it was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hf_agent import hyperfile
from support.command import interrupt, start
from support.moto_s3 import MotoS3, moto_s3, s3_bucket
from support.s3_gate import S3Gate

__all__ = ["moto_s3", "s3_bucket"]

CONTENT = random.Random(1).randbytes(200_000)
PIPE_BYTES = 1 << 20
"""More than a pipe holds: who has written so much knows that the other side reads."""


@pytest.fixture
def uri(tmp_path: Path) -> str:
    made = f"file://{tmp_path}/store/data"
    with hyperfile.open(made, "x") as file:
        file.write(CONTENT)
    return made


def objects(tmp_path: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in (tmp_path / "store").rglob("*")
        if path.is_file() and "lock" not in path.name
    }


@pytest.mark.parametrize("options", [(), ("--offset", "100")])
def test_write_that_waits_for_its_input(uri: str, tmp_path: Path, options: tuple[str, ...]) -> None:
    before = objects(tmp_path)
    process = start("write", uri, *options)
    assert process.stdin is not None
    process.stdin.write(bytes(PIPE_BYTES))
    process.stdin.flush()  # it has read most of that, and waits for more
    assert interrupt(process) == (130, b"")
    assert objects(tmp_path) == before


def test_cat_that_waits_for_its_reader(uri: str) -> None:
    process = start("cat", uri)
    assert process.stdout is not None
    assert process.stdout.read(1)
    assert interrupt(process) == (130, b"")


@pytest.mark.parametrize(
    "command",
    [
        ("write", "{uri}", "{file}"),
        ("rollback", "{uri}", "1"),
        ("cp", "{uri}", "{uri}-copy"),
    ],
)
def test_a_command_whose_store_does_not_answer(
    moto_s3: MotoS3,
    s3_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    """Interrupted at its first write to the store."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_s3.endpoint_url)
    uri = f"s3://{s3_bucket}/data"
    for content in (CONTENT, CONTENT + b"!"):
        with hyperfile.open(uri, "w") as file:
            file.write(content)
    (tmp_path / "input").write_bytes(b"new")
    args = [part.format(uri=uri, file=tmp_path / "input") for part in command]
    gate = S3Gate(moto_s3.endpoint_url)
    gate.hold_writes()
    process = start(*args, "--endpoint-url", gate.url)
    try:
        assert gate.held.acquire(timeout=60)
        assert interrupt(process) == (130, b"")
    finally:
        gate.release_writes()
        gate.close()
    with hyperfile.open(uri) as file:
        assert (file.checkpoint, file.read()) == (2, CONTENT + b"!")
    with pytest.raises(FileNotFoundError):
        hyperfile.open(f"{uri}-copy")
