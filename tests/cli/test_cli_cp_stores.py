"""`cp` between a directory and S3, both ways: the whole history, and one checkpoint."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from hf_agent import hyperfile
from hf_agent.cli.main import main
from support.moto_s3 import MotoS3, moto_s3  # noqa: F401 - a fixture

BLOCK = 4096
FIRST = random.Random(1).randbytes(300 * BLOCK + 5)
SECOND = FIRST[: 7 * BLOCK] + b"changed" + FIRST[7 * BLOCK + 7 :]
HOLE_AT = len(SECOND)
THIRD = SECOND + bytes(40 * BLOCK) + b"far behind"
STATES = [FIRST, SECOND, THIRD]


class Sites:
    """A container in each store, written and looked at by the same calls."""

    def __init__(
        self, folder: Path, server: MotoS3, captured: pytest.CaptureFixture[bytes]
    ) -> None:
        self._server = server
        self._captured = captured
        self.uris = {"directory": f"file:{folder}/store", "s3": f"s3://{server.make_bucket()}"}

    def command(self, *args: str, status: int = 0) -> bytes:
        got = main([*args, "--endpoint-url", self._server.endpoint_url])
        out, err = self._captured.readouterr()
        assert got == status, err
        return out if not status else err

    def write(self, uri: str) -> None:
        options: Any = {"endpoint_url": self._server.endpoint_url} if uri.startswith("s3:") else {}
        with hyperfile.open(uri, "x", block_size=BLOCK, part_bytes=1 << 20, **options) as file:
            file.write(FIRST)
            file.flush()
            file.seek(7 * BLOCK)
            file.write(b"changed")
            file.flush()
            file.seek(len(THIRD) - 10)
            file.write(b"far behind")

    def objects(self, uri: str) -> dict[str, bytes]:
        """What stands below a key, by name, in whichever store."""
        if uri.startswith("file:"):
            folder = Path(uri.removeprefix("file:"))
            found = (each for each in folder.iterdir() if not each.name.startswith(".hf-lock"))
            return {each.name: each.read_bytes() for each in found}
        import boto3

        client = boto3.client("s3", endpoint_url=self._server.endpoint_url)
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{key}/").get("Contents", [])
        return {
            os.path.basename(each["Key"]): client.get_object(Bucket=bucket, Key=each["Key"])[
                "Body"
            ].read()
            for each in listed
        }


@pytest.fixture
def sites(
    tmp_path: Path,
    moto_s3: MotoS3,  # noqa: F811
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Sites:
    return Sites(tmp_path, moto_s3, capfdbinary)


WAYS = pytest.mark.parametrize(("source", "target"), [("directory", "s3"), ("s3", "directory")])


@WAYS
def test_the_whole_history_arrives_byte_for_byte(sites: Sites, source: str, target: str) -> None:
    here, there = f"{sites.uris[source]}/log", f"{sites.uris[target]}/copied/log"
    sites.write(here)
    sites.command("cp", "--history", here, there)
    original = sites.objects(here)
    assert len(original) >= 5  # an inode, three checkpoints, and parts of the first
    assert sites.objects(there) == original
    for number, state in enumerate(STATES, 1):
        assert sites.command("cat", there, "--at", str(number)) == state
    logs = [json.loads(sites.command("log", "--json", uri)) for uri in (here, there)]
    assert [row["checkpoint"] for row in logs[0]] == [3, 2, 1]
    assert logs[0] == logs[1]
    sites.command("verify", there)
    # It is a container like any other: it goes on, and the original does not.
    sites.command("truncate", there, "10")
    assert sites.command("cat", there) == FIRST[:10]
    assert sites.command("cat", here) == THIRD


@WAYS
@pytest.mark.parametrize("number", [1, 3])
def test_one_checkpoint_arrives_as_the_only_one(
    sites: Sites, source: str, target: str, number: int
) -> None:
    here, there = f"{sites.uris[source]}/log", f"{sites.uris[target]}/log"
    sites.write(here)
    sites.command("cp", "--at", str(number), here, there)
    assert sites.command("cat", there) == STATES[number - 1]
    (row,) = json.loads(sites.command("log", "--json", there))
    assert (row["checkpoint"], row["size"]) == (1, len(STATES[number - 1]))
    sites.command("verify", there)
    # Holes stay holes.
    assert sum(map(len, sites.objects(there).values())) < len(FIRST) + 20 * BLOCK
    assert b"already" in sites.command("cp", here, there, status=1)
    assert sites.command("cat", there) == STATES[number - 1]
