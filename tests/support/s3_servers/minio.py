"""A MinIO server of this run of the tests, where its binary is found.

`HF_AGENT_MINIO` names the binary; else it is `minio` on the PATH. Where there is none, the tests
that want it are skipped, and say how to get it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hf_agent.store.options import S3Options
from support.moto_s3 import CREDENTIALS, process_credentials
from support.s3_servers.signing import make_bucket

__all__ = ["HOW_TO_GET_MINIO", "Minio", "find_minio", "minio", "running_minio"]

_STARTS_WITHIN = 60.0
HOW_TO_GET_MINIO = (
    "no MinIO: put `minio` on the PATH or name it in HF_AGENT_MINIO "
    "(go install github.com/minio/minio@latest)"
)


@dataclass(frozen=True, slots=True)
class Minio:
    """A running server."""

    endpoint_url: str

    @property
    def env(self) -> dict[str, str]:
        """Environment variables for a process that uses the server."""
        return dict(CREDENTIALS)

    def options(self, **changes: Any) -> S3Options:
        """Options for a store on this server."""
        named: dict[str, Any] = {"endpoint_url": self.endpoint_url, "addressing": "path"}
        return S3Options(**(named | changes))

    def make_bucket(self, name: str = "") -> str:
        """Create a bucket, under a name of its own unless one is given; returns the name."""
        name = name or f"test-{uuid.uuid4().hex[:12]}"
        make_bucket(self.endpoint_url, name)
        return name


def find_minio() -> str | None:
    """The binary, where there is one."""
    return os.environ.get("HF_AGENT_MINIO") or shutil.which("minio")


@contextmanager
def running_minio(binary: str, folder: Path) -> Iterator[Minio]:
    """A server that keeps its data below `folder`; its credentials are set in this process's
    environment."""
    address = f"127.0.0.1:{_free_port()}"
    environment = {
        **os.environ,
        "MINIO_ROOT_USER": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "MINIO_ROOT_PASSWORD": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary, "server", "--quiet", "--address", address, str(folder / "data")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=folder,
        )
    try:
        _wait_until_it_serves(f"http://{address}", process, log)
        with process_credentials():
            yield Minio(f"http://{address}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """A server for all tests of the run; its credentials are set in this process's environment."""
    binary = find_minio()
    if not binary:
        pytest.skip(HOW_TO_GET_MINIO)
    with running_minio(binary, tmp_path_factory.mktemp("minio")) as server:
        yield server


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _wait_until_it_serves(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when a bucket can be made: its health checks are green some time before that."""
    pause = threading.Event()
    for _ in range(int(_STARTS_WITHIN / 0.1)):
        assert process.poll() is None, f"MinIO ended:\n{log.read_text()}"
        try:
            make_bucket(url, "made-at-the-start")
            return
        except OSError as error:  # HTTPError and URLError are of its kind
            last = error
            pause.wait(0.1)  # it says nothing when it is up
    raise AssertionError(f"MinIO did not come up: {last}\n{log.read_text()}")
